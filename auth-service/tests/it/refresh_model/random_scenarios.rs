//! Explores long random interleavings.

use std::{cell::RefCell, collections::BTreeSet};

use proptest::{
    prelude::{Just, Strategy, any, prop, prop_oneof},
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{BrokenPromise, GRACE, Party, Step, World, require};

const CASES: u32 = 2000;
const STEPS: usize = 150;

fn step(with_thief: bool) -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    let seldom = || prop::bool::weighted(0.3);
    let wait = prop_oneof![3 => 0..=GRACE.num_seconds(), 1 => 11..=3600_i64];
    let thief = u32::from(with_thief);
    prop_oneof![
        6 => any::<bool>().prop_map(|with_id| Step::Refresh { with_id }),
        8 => any::<bool>().prop_map(|with_id| Step::Send { with_id }),
        10 => (which(), seldom()).prop_map(|(which, again)| Step::Arrive { which, again }),
        2 => which().prop_map(|which| Step::LoseRequest { which }),
        10 => (which(), seldom()).prop_map(|(which, again)| Step::Answer { which, again }),
        2 => which().prop_map(|which| Step::LoseAnswer { which }),
        4 => wait.prop_map(|seconds| Step::Wait { seconds }),
        thief => Just(Step::Steal),
        2 * thief => (which(), any::<bool>()).prop_map(|(which, with_id)| Step::Thieve { which, with_id }),
    ]
}

/// Runs `scenario` with random steps, and returns the verdicts that occurred.
fn explore(with_thief: bool, scenario: impl Fn(World<'_>, Vec<Step>) -> Result<(), BrokenPromise>) -> BTreeSet<String> {
    let verdicts = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(step(with_thief), 0..STEPS);
    if let Err(failure) = runner
        .run(&steps, |steps| scenario(World::new(&verdicts), steps).map_err(|broken| TestCaseError::fail(broken.to_string())))
    {
        panic!("{failure}");
    }
    verdicts.into_inner()
}

#[test]
fn an_honest_client_is_never_logged_out() {
    let verdicts = explore(false, |mut world, steps| {
        for step in steps {
            world.take(step)?;
            require(world.is_active() && !world.signed_out, "the session goes on")?;
        }
        world.send(true);
        let last = world.requests.pop().expect("the last request");
        if world.is_promised(&last) {
            let answer = world.refresh(Party::Client, &last)?;
            require(answer.1.is_some(), "the client can go on")?;
        }
        Ok(())
    });
    assert_eq!(verdicts.iter().map(String::as_str).collect::<Vec<_>>(), ["LateDuplicate", "Replay", "Rotate"]);
}

#[test]
fn reuse_of_a_generation_by_a_thief_is_detected() {
    let verdicts = explore(true, |mut world, steps| {
        for step in steps {
            let had_ended = !world.is_active();
            let (before, answered) = (world.session.clone(), world.rotations.len());
            world.take(step)?;
            if had_ended {
                require(world.session == before && world.rotations.len() == answered, "a session that has ended stays as it is")?;
            }
        }
        Ok(())
    });
    assert_eq!(verdicts.iter().map(String::as_str).collect::<Vec<_>>(), ["Ended", "LateDuplicate", "Replay", "Reuse", "Rotate"]);
}
