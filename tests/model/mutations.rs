//! The checker can fail: with a rule taken out, from outside of the code, it finds out what the rule is for.

use idemgate::store::admission::AdmissionLimits;

use crate::{
    checker::{Worlds, envoy, worker},
    proof::{
        history::Promise,
        scenario::{Conduct, Faults, Mutation, Scenario},
    },
};

fn in_shared_data(mutation: Mutation) -> Worlds {
    let scenario = Scenario::new(300, 900)
        .retries_unknown()
        .request(0, 0, worker(0))
        .request(1, 0, worker(1))
        .request(1, 1, worker(1))
        .deeds(&[Conduct::Answers, Conduct::Refuses])
        .mutated(mutation);
    Worlds::new(scenario, 3, 100)
}

fn in_redis(mutation: Mutation) -> Worlds {
    let scenario = Scenario::new(300, 900)
        .on_redis(2, 1, 100)
        .retries_unknown()
        .request(0, 0, envoy(0))
        .request(1, 0, envoy(1))
        .request(1, 1, envoy(1))
        .deeds(&[Conduct::Answers, Conduct::Refuses])
        .mutated(mutation);
    Worlds::new(scenario, 3, 100)
}

fn in_dynamodb(mutation: Mutation, hides_items: bool) -> Worlds {
    let scenario = crate::dynamodb::two_envoys(hides_items, crate::dynamodb::BEHIND).retries_unknown();
    Worlds::new(scenario.deeds(&[Conduct::Answers, Conduct::Refuses]).mutated(mutation), 1, crate::dynamodb::STEP)
}

#[test]
fn a_blind_set_in_place_of_insert_if_absent_is_found_out() {
    in_shared_data(Mutation::BlindSet).break_one_of(&[Promise::Record, Promise::AtMostOnce]);
    in_redis(Mutation::BlindSet).break_one_of(&[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn writes_without_fencing_are_found_out() {
    in_shared_data(Mutation::NoFencing).break_one_of(&[Promise::Record, Promise::AtMostOnce]);
    in_redis(Mutation::NoFencing).break_one_of(&[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn releases_by_anyone_are_found_out() {
    in_shared_data(Mutation::ReleaseByAnyone).break_one_of(&[Promise::Record, Promise::AtMostOnce]);
    in_redis(Mutation::ReleaseByAnyone).break_one_of(&[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn records_that_are_given_up_too_young_are_found_out() {
    let scenario = Scenario::new(300, 900).evicted_and_run_again().keeping(150).mutated(Mutation::NoFloor);
    Worlds::new(scenario, 0, 100).break_one_of(&[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn responses_that_are_remembered_whatever_is_written_are_found_out() {
    let scenario = Scenario::new(300, 900).evicted_and_run_again().mutated(Mutation::StaleReplay);
    Worlds::new(scenario, 0, 100).break_one_of(&[Promise::Replay]);
}

#[test]
fn a_crowd_of_which_the_rest_is_forgotten_is_found_out() {
    Worlds::new(crate::shared_data::crowd().mutated(Mutation::RestForgotten), 0, 100)
        .break_one_of(&[Promise::ClaimEnds]);
}

#[test]
fn replays_without_a_look_at_the_fingerprint_are_found_out() {
    in_shared_data(Mutation::NoFingerprint).break_one_of(&[Promise::Replay]);
    in_redis(Mutation::NoFingerprint).break_one_of(&[Promise::Replay]);
}

#[test]
fn answers_for_the_wrong_exchange_are_found_out() {
    let two_keys = |scenario: Scenario| {
        let scenario = Scenario { limits: AdmissionLimits { calls: 2, ..scenario.limits }, ..scenario };
        scenario.attempt(0, 0, 0, 0, envoy(0)).attempt(1, 1, 0, 0, envoy(0)).mutated(Mutation::WrongExchange)
    };
    let of_calls = two_keys(Scenario::new(300, 900).detached());
    Worlds::new(of_calls, 0, 100).break_one_of(&[Promise::Answer, Promise::Replay]);
    let of_questions = two_keys(Scenario::new(300, 900).on_redis(2, 1, 100)).request(2, 0, envoy(1));
    let promises = [Promise::Answer, Promise::AtMostOnce, Promise::Record, Promise::Replay];
    Worlds::new(of_questions, 0, 100).break_one_of(&promises);
}

#[test]
fn replies_for_the_wrong_question_of_a_connection_are_found_out() {
    let scenario = Scenario::new(300, 900).on_redis(1, 1, 100).over_streams().mutated(Mutation::WrongQuestion);
    let scenario = Scenario { limits: AdmissionLimits { calls: 2, ..scenario.limits }, ..scenario };
    let scenario = scenario.attempt(0, 0, 0, 0, envoy(0)).attempt(0, 0, 0, 0, envoy(0)).attempt(1, 1, 0, 0, envoy(0));
    let promises = [Promise::Answer, Promise::AtMostOnce, Promise::Record, Promise::Replay];
    Worlds::new(scenario, 0, 100).break_one_of(&promises);
}

#[test]
fn a_doubt_that_is_taken_for_a_certainty_is_found_out() {
    let faults = Faults { losses: 1, ..Faults::default() };
    let scenario = Scenario::new(300, 900).on_redis(1, 1, 100).over_streams().request(0, 0, envoy(0));
    Worlds::new(scenario.faults(faults).mutated(Mutation::CertainLoss), 0, 100).break_one_of(&[Promise::ClaimEnds]);
}

#[test]
fn a_worker_that_is_never_woken_is_found_out() {
    Worlds::new(crate::shared_data::crowd().mutated(Mutation::NeverWoken), 0, 100).break_one_of(&[Promise::ClaimEnds]);
}

#[test]
fn leases_that_are_judged_by_the_clock_of_an_envoy_are_found_out() {
    in_dynamodb(Mutation::OwnClock, false).break_one_of(&[Promise::AtMostOnce, Promise::Record]);
}

#[test]
fn writes_in_the_place_of_what_was_not_judged_are_found_out() {
    in_dynamodb(Mutation::NoJudgement, false).break_one_of(&[Promise::AtMostOnce, Promise::Record]);
}

#[test]
fn marks_that_are_taken_for_records_are_found_out() {
    in_dynamodb(Mutation::MarkAsRecord, true).break_one_of(&[Promise::Record]);
}
