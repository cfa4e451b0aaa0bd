//! What a panic says: of other people's code that is called here, and of work that must not take its thread along.

use std::any::Any;

/// The text of a panic that was caught. Give it what is in the box (`&*panic`), not the box.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, panic_any};

    use super::*;

    #[test]
    fn a_panic_says_its_text_whichever_way_it_was_made() {
        let two = 2;
        let text = |panics: fn(i32)| {
            let panic = catch_unwind(move || panics(two)).unwrap_err();
            panic_text(&*panic).to_owned()
        };
        assert_eq!(text(|_| panic!("at once")), "at once");
        assert_eq!(text(|two| panic!("with {two}")), "with 2");
        assert_eq!(text(|two| panic_any(two)), "no text");
    }
}
