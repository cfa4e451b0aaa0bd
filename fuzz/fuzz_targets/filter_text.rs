//! Any text either parses as a filter or is refused, without a panic; what parses prints as text that parses to the
//! same filter.
#![no_main]

use akidb::Filter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(filter) = text.parse::<Filter>() else { return };
    let printed = filter.to_string();
    match printed.parse::<Filter>() {
        Ok(again) => assert_eq!(again, filter, "{text:?} prints as {printed:?}"),
        Err(error) => panic!("{text:?} prints as {printed:?}, which does not parse: {error}"),
    }
});
