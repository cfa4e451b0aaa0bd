//! How many files this process may have open.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as nobody needs more of. Some systems allow a milliard, and a child that closes all it might have inherited takes minutes
/// then.
const ENOUGH: u64 = 65_536;

/// Raises the soft limit on open files to the hard one, or to 65,536 where that is more, once for the life of the process; it
/// is never lowered. Later calls answer what the first did: the limit by then, `None` for no limit.
///
/// # Errors
/// What the system said; the limit is what it was.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    static RAISED: OnceLock<Result<Option<u64>, rustix::io::Errno>> = OnceLock::new();
    Ok((*RAISED.get_or_init(raise))?)
}

fn raise() -> Result<Option<u64>, rustix::io::Errno> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is without limit.
    let wanted = maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if current.is_none_or(|soft| soft >= wanted) {
        return Ok(current);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    Ok(Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one_or_enough() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Enough for whatever else runs in this process meanwhile.
        let low = maximum.map_or(512, |hard| hard.min(512));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), maximum }).unwrap();
        let raised = Some(maximum.map_or(ENOUGH, |hard| hard.min(ENOUGH)));
        assert_eq!(raise().unwrap(), raised);
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: raised, maximum });
        assert_eq!(raise().unwrap(), raised, "again");
        assert_eq!(raise_open_files().unwrap(), raised);
        if maximum.is_none_or(|hard| hard > ENOUGH) {
            let more = Rlimit { current: maximum, maximum };
            setrlimit(Resource::Nofile, more).unwrap();
            assert_eq!((raise().unwrap(), getrlimit(Resource::Nofile)), (maximum, more), "never lowered");
        }
    }
}
