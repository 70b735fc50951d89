//! Every state that can be reached with so many requests and answers under way, and so many rotations: short stories, and all of them.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Broken, GRACE, Party, Step, World, require};

/// How far the stories go.
#[derive(Clone, Copy)]
struct Bounds {
    /// How many requests, and how many answers, are under way at once.
    under_way: usize,
    /// How often the session is rotated.
    rotations: i64,
    with_thief: bool,
}

/// The state that determines the rest of a scenario.
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
    fn of(world: &World<'_>) -> Self {
        // Every time after the grace period is equivalent.
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

/// All that can happen next.
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

/// Takes every step from every state, and answers how many states there are. `promise` is asked of what each step leads from and to.
fn explore(bounds: Bounds, promise: impl Fn(&World<'_>, &World<'_>) -> Result<(), Broken>) -> usize {
    let verdicts = RefCell::new(BTreeSet::new());
    let mut worlds = vec![World::new(&verdicts)];
    let mut ways: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut seen = HashSet::from([Key::of(&worlds[0])]);
    let mut next = 0;
    while next < worlds.len() {
        for step in steps(&worlds[next], bounds.with_thief) {
            let before = &worlds[next];
            let mut after = before.clone();
            let outcome = after.take(step).and_then(|()| promise(before, &after));
            if let Err(broken) = outcome {
                let mut way = vec![step];
                let mut at = next;
                while let (from, Some(step)) = ways[at] {
                    way.push(step);
                    at = from;
                }
                way.reverse();
                panic!("{broken}, after {way:#?}");
            }
            // Holding the same token twice makes no difference.
            after.stolen.sort_by_key(|token| token.generation);
            after.stolen.dedup();
            let is_within =
                after.requests.len().max(after.answers.len()) <= bounds.under_way && after.session.generation <= bounds.rotations;
            if is_within && seen.insert(Key::of(&after)) {
                worlds.push(after);
                ways.push((next, Some(step)));
            }
        }
        next += 1;
    }
    worlds.len()
}

#[test]
fn in_no_state_is_an_honest_client_logged_out() {
    let states = explore(Bounds { under_way: 2, rotations: 3, with_thief: false }, |_, world| {
        require(world.is_active() && !world.signed_out, "the session goes on")?;
        let mut later = world.clone();
        later.send(true);
        let last = later.requests.pop().expect("what was sent");
        if later.is_promised(&last) {
            require(later.refresh(Party::Client, &last)?.1.is_some(), "the client can go on")?;
        }
        Ok(())
    });
    assert!(states > 60_000, "{states} states");
}

#[test]
fn in_every_state_two_who_have_used_one_generation_are_told_apart() {
    let states = explore(Bounds { under_way: 1, rotations: 2, with_thief: true }, |before, after| {
        let is_as_it_was = after.session == before.session && after.rotations.len() == before.rotations.len();
        require(before.is_active() || is_as_it_was, "a session that has ended stays as it is")
    });
    assert!(states > 25_000, "{states} states");
}
