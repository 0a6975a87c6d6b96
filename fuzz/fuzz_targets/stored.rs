#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| authservice::server::fuzzing::stored(data));
