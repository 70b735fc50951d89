//! Explores every state that is reachable with a bounded number of requests and responses in flight and of rotations.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{BrokenPromise, GRACE, Party, Step, World, require};

/// The bounds of the exploration.
#[derive(Clone, Copy)]
struct Bounds {
    /// The maximum number of requests in flight, and of responses in flight.
    in_flight: usize,
    /// The maximum number of rotations.
    rotations: i64,
    with_thief: bool,
}

/// The part of a world that determines its future. Two worlds with the same key are explored once.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    generation: i64,
    is_active: bool,
    rotated: i64,
    request_hashes: Vec<u8>,
    rotations: Vec<(i64, bool, i64)>,
    requests: Vec<(i64, bool)>,
    answers: Vec<(i64, Option<i64>)>,
    token: i64,
    pending: Option<bool>,
    signed_out: bool,
    stolen: BTreeSet<i64>,
}

impl Key {
    fn new(world: &World<'_>) -> Self {
        // All ages beyond the grace period are equivalent.
        let age = |time: DateTime<Utc>| (world.now - time).min(GRACE + TimeDelta::seconds(1)).num_seconds();
        let rotation =
            |(generation, rotation): (&i64, &super::Rotation)| (*generation, rotation.by == Party::Thief, age(rotation.at));
        let mut requests: Vec<_> =
            world.requests.iter().map(|request| (request.token.generation, request.id.is_some())).collect();
        let mut answers: Vec<_> =
            world.answers.iter().map(|(of, successor)| (*of, successor.as_ref().map(|token| token.generation))).collect();
        requests.sort_unstable();
        answers.sort_unstable();
        Self {
            generation: world.session.generation,
            is_active: world.is_active(),
            rotated: age(world.session.rotated_at),
            request_hashes: world.session.request_hashes.clone(),
            rotations: world.rotations.iter().map(rotation).collect(),
            requests,
            answers,
            token: world.token.generation,
            pending: world.pending.as_ref().map(|request| request.id.is_some()),
            signed_out: world.signed_out,
            stolen: world.stolen.iter().map(|token| token.generation).collect(),
        }
    }
}

/// Returns every step that is possible next.
fn steps(world: &World<'_>, with_thief: bool) -> Vec<Step> {
    let mut steps = vec![Step::Wait { seconds: 5 }, Step::Wait { seconds: 11 }];
    for with_id in [true, false] {
        steps.push(Step::Send { with_id });
    }
    for which in 0..world.requests.len() {
        steps.extend([true, false].map(|again| Step::Arrive { which, again }));
        steps.push(Step::LoseRequest { which });
    }
    for which in 0..world.answers.len() {
        steps.extend([true, false].map(|again| Step::Answer { which, again }));
        steps.push(Step::LoseAnswer { which });
    }
    if with_thief {
        steps.push(Step::Steal);
        for which in 0..world.stolen.len() {
            steps.extend([true, false].map(|with_id| Step::Thieve { which, with_id }));
        }
    }
    steps
}

/// Takes every step from every state, checks `promise` for the states before and after each step, and returns the number of states.
fn explore(bounds: Bounds, promise: impl Fn(&World<'_>, &World<'_>) -> Result<(), BrokenPromise>) -> usize {
    let verdicts = RefCell::new(BTreeSet::new());
    let mut worlds = vec![World::new(&verdicts)];
    let mut paths: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut seen = HashSet::from([Key::new(&worlds[0])]);
    let mut next = 0;
    while next < worlds.len() {
        for step in steps(&worlds[next], bounds.with_thief) {
            let before = &worlds[next];
            let mut after = before.clone();
            let outcome = after.take(step).and_then(|()| promise(before, &after));
            if let Err(broken) = outcome {
                let mut path = vec![step];
                let mut at = next;
                while let (from, Some(step)) = paths[at] {
                    path.push(step);
                    at = from;
                }
                path.reverse();
                panic!("{broken}, after {path:#?}");
            }
            // A second copy of a stolen token adds no new possibilities.
            after.stolen.sort_by_key(|token| token.generation);
            after.stolen.dedup();
            let is_within =
                after.requests.len().max(after.answers.len()) <= bounds.in_flight && after.session.generation <= bounds.rotations;
            if is_within && seen.insert(Key::new(&after)) {
                worlds.push(after);
                paths.push((next, Some(step)));
            }
        }
        next += 1;
    }
    worlds.len()
}

#[test]
fn an_honest_client_is_never_logged_out_in_any_state() {
    let states = explore(Bounds { in_flight: 2, rotations: 3, with_thief: false }, |_, world| {
        require(world.is_active() && !world.signed_out, "the session goes on")?;
        let mut later = world.clone();
        later.send(true);
        let last = later.requests.pop().expect("the last request");
        if later.is_promised(&last) {
            require(later.refresh(Party::Client, &last)?.1.is_some(), "the client can go on")?;
        }
        Ok(())
    });
    assert!(states > 60_000, "{states} states");
}

#[test]
fn reuse_of_a_generation_is_detected_in_every_state() {
    let states = explore(Bounds { in_flight: 1, rotations: 2, with_thief: true }, |before, after| {
        let is_as_it_was = after.session == before.session && after.rotations.len() == before.rotations.len();
        require(before.is_active() || is_as_it_was, "a session that has ended stays as it is")
    });
    assert!(states > 25_000, "{states} states");
}
