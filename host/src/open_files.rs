//! How many files this process may have open.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one, once for the life of the process; later calls answer what the first did:
/// the limit by then, `None` for no limit.
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
    if current.is_some_and(|soft| maximum.is_none_or(|hard| soft < hard)) {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Enough for whatever else runs in this process meanwhile.
        let low = maximum.map_or(512, |hard| hard.min(512));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), maximum }).unwrap();
        assert_eq!(raise().unwrap(), maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
        assert_eq!(raise().unwrap(), maximum, "again");
        assert_eq!(raise_open_files().unwrap(), maximum);
    }
}
