//! A list that only grows and whose places never move: found without a lock, and small while it is short.

use std::sync::OnceLock;

/// Places of the first piece.
const FIRST: usize = 16;
/// Places of a piece at most: each is as large as all before it, up to here.
const PIECE: usize = 1_024;
/// Pieces that are smaller: together as large as one.
const SMALL: usize = 7;
const PIECES: usize = 2_048;
/// Places there are.
pub(crate) const MAX_SLOTS: usize = PIECE * PIECES;

/// Places that are filled once and then never move.
type Small<T> = OnceLock<Box<[OnceLock<T>]>>;
type Piece<T> = OnceLock<Box<[OnceLock<T>; PIECE]>>;

/// One thread at a time appends; any number read.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    small: [Small<T>; SMALL],
    /// All further ones; the first of them is never made.
    pieces: OnceLock<Box<[Piece<T>; PIECES]>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { small: std::array::from_fn(|_| OnceLock::new()), pieces: OnceLock::new() }
    }
}

impl<T> Slots<T> {
    /// What was put at this place.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.place(at)?.get()
    }

    #[inline]
    fn place(&self, at: usize) -> Option<&OnceLock<T>> {
        if at < PIECE {
            let (piece, first) = small_of(at);
            self.small[piece].get()?.get(at - first)
        } else {
            Some(&self.pieces.get()?[at / PIECE].get()?[at % PIECE])
        }
    }

    /// Makes room for the place `at`, where nothing was allocated for it yet; the bytes that takes. One thread at a time.
    #[inline]
    pub(crate) fn make_room(&self, at: usize) -> u64 {
        if self.place(at).is_some() { 0 } else { self.allocate(at) }
    }

    #[cold]
    fn allocate(&self, at: usize) -> u64 {
        let mut bytes = 0;
        if at < PIECE {
            self.small[small_of(at).0].get_or_init(|| {
                let places = FIRST.max(1 << at.max(1).ilog2());
                bytes += places * size_of::<OnceLock<T>>();
                (0..places).map(|_| OnceLock::new()).collect()
            });
        } else {
            let pieces = self.pieces.get_or_init(|| {
                bytes += size_of::<[Piece<T>; PIECES]>();
                boxed()
            });
            pieces[at / PIECE].get_or_init(|| {
                bytes += size_of::<[OnceLock<T>; PIECE]>();
                boxed()
            });
        }
        bytes as u64
    }

    /// Fills a place there is room for.
    ///
    /// # Panics
    /// If it was filled before, or there is no room.
    pub(crate) fn put(&self, at: usize, value: T) {
        let place = self.place(at).expect("room was made");
        assert!(place.set(value).is_ok(), "slot {at} written twice");
    }
}

fn boxed<T, const N: usize>() -> Box<[OnceLock<T>; N]> {
    let places: Box<[OnceLock<T>]> = (0..N).map(|_| OnceLock::new()).collect();
    places.try_into().unwrap_or_else(|_| unreachable!("so many were made"))
}

/// Of a place below [`PIECE`]: its piece, and the first place of that.
#[inline]
fn small_of(at: usize) -> (usize, usize) {
    // The first holds what lies below `FIRST`, number n what lies below `FIRST << n` and not lower.
    let power = (at | (FIRST / 2)).ilog2();
    ((power - (FIRST / 2).ilog2()) as usize, (1 << power) & !(FIRST - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_follow_one_another() {
        let mut expected = (0, 0);
        for at in 0..PIECE {
            if at >= FIRST && at.is_power_of_two() {
                expected = (expected.0 + 1, at);
            }
            assert_eq!(small_of(at), expected, "{at}");
        }
        assert_eq!(expected, (SMALL - 1, PIECE / 2));
    }

    #[test]
    fn what_was_put_stays_where_it_is_and_room_is_told_once() {
        let slots = Slots::default();
        let (mut bytes, mut first) = (0, std::ptr::null());
        for at in 0..10_000usize {
            assert_eq!(slots.get(at), None);
            bytes += slots.make_room(at);
            assert_eq!(slots.make_room(at), 0);
            slots.put(at, at);
            if at == 0 {
                first = std::ptr::from_ref(slots.get(0).unwrap());
            }
            let own = (at + 1) * size_of::<OnceLock<usize>>();
            let most = if at < PIECE { (2 * own).max(512) } else { own + (64 << 10) };
            assert!((own..=most).contains(&usize::try_from(bytes).unwrap()), "{bytes} for {at}");
        }
        assert!((0..10_000).all(|at| slots.get(at) == Some(&at)));
        assert!(std::ptr::eq(slots.get(0).unwrap(), first));
    }

    #[test]
    fn the_last_place_is_one_and_there_is_none_after_it() {
        let slots = Slots::default();
        slots.make_room(MAX_SLOTS - 1);
        slots.put(MAX_SLOTS - 1, 7);
        assert_eq!((slots.get(MAX_SLOTS - 1), slots.get(MAX_SLOTS - 2)), (Some(&7), None));
    }
}
