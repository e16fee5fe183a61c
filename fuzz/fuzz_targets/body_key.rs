#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::body_key::check(bytes));
