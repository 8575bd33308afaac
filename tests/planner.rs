//! The planner and the verdict, as tables and as properties: no cluster, no clock, no runtime.
#![allow(clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod planner {
    mod anything;
    mod attachment;
    mod bonds;
    mod conditions;
    mod fixture;
    mod lifecycle;
    mod model;
    mod node_owner;
    mod older;
    mod pairing;
    mod problem_model;
    mod problems;
    mod properties;
    mod revision;
    mod service;
    mod size;
    mod storage;
    mod timeline;
    mod transitions;
    mod verdict_model;
    mod verdicts;
}
