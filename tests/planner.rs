//! The planner and the verdict, as tables and as properties: no cluster, no clock, no runtime.
#![allow(clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod planner {
    mod anything;
    mod bonds;
    mod carrying;
    mod claims;
    mod conditions;
    mod fixture;
    mod lifecycle;
    mod model;
    mod pairing;
    mod problems;
    mod properties;
    mod revision;
    mod service;
    mod storage;
    mod transitions;
    mod verdicts;
    mod world;
}
