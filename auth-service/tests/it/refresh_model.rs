//! A model of the refresh machine, run through random interleavings: the service's own `judge` and rotation, a network that
//! delays, repeats and loses, an honest client that retries, and a thief with a copy of a refresh token.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use auth_service::sessions::{FIRST_PARTY, Lifetime, Presented, Session, Verdict, judge};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::{
    prelude::{Just, Strategy, any, prop, prop_oneof},
    sample::Index,
    test_runner::{Config, TestCaseError, TestRunner},
};
use uuid::Uuid;

/// The promises, in figures of their own: what the service calls its grace and its memory has to keep them.
const GRACE: TimeDelta = TimeDelta::seconds(10);
const REMEMBERED: i64 = 16;

const LIFETIME: Lifetime = Lifetime { idle: TimeDelta::days(14), absolute: TimeDelta::days(90) };
const CASES: u32 = 2000;
const STEPS: usize = 150;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The client refreshes, and nothing goes wrong.
    Refresh {
        with_id: bool,
    },
    /// The client sends its refresh token: for the first time, with a request id or without, or again as it did before.
    Send {
        with_id: bool,
    },
    /// A request reaches the service. A copy of it may stay on its way.
    Arrive {
        which: Index,
        again: bool,
    },
    LoseRequest {
        which: Index,
    },
    /// An answer reaches the client. A copy of it may stay on its way.
    Answer {
        which: Index,
        again: bool,
    },
    LoseAnswer {
        which: Index,
    },
    Wait {
        seconds: i64,
    },
    /// The thief copies what the client has.
    Steal,
    /// The thief refreshes one of the tokens that it has.
    Thieve {
        which: Index,
        with_id: bool,
    },
}

fn step(with_thief: bool) -> impl Strategy<Value = Step> {
    let which = any::<Index>;
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

/// A refresh token: what its bytes follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    generation: i64,
    kid: String,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl Token {
    fn of(session: &Session) -> Self {
        Self {
            generation: session.generation,
            kid: session.kid.clone(),
            issued_at: session.rotated_at,
            expires_at: session.idle_expires_at,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Party {
    Client,
    Thief,
}

#[derive(Debug, Clone)]
struct Request {
    token: Token,
    id: Option<Uuid>,
}

/// The generation that was presented, and its successor where it got one.
type Answer = (i64, Option<Token>);

/// Who got the successor of a generation first, when, and which.
struct Rotation {
    by: Party,
    at: DateTime<Utc>,
    successor: Token,
}

struct World<'a> {
    now: DateTime<Utc>,
    session: Session,
    rotations: BTreeMap<i64, Rotation>,
    requests: Vec<Request>,
    answers: Vec<Answer>,
    /// The client's token, and the request that it waits for.
    token: Token,
    pending: Option<Request>,
    signed_out: bool,
    stolen: Vec<Token>,
    ids: u128,
    verdicts: &'a RefCell<BTreeSet<String>>,
}

impl<'a> World<'a> {
    fn new(verdicts: &'a RefCell<BTreeSet<String>>) -> Self {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let session = Session {
            session_id: Uuid::nil().into(),
            user_id: Uuid::nil().into(),
            client_id: FIRST_PARTY.to_owned(),
            generation: 0,
            kid: "k".to_owned(),
            rotated_at: now,
            replays: 0,
            request_hashes: Vec::new(),
            status: "ACTIVE".to_owned(),
            idle_expires_at: now + LIFETIME.idle,
            absolute_expires_at: now + LIFETIME.absolute,
            user_agent: String::new(),
            address: String::new(),
            create_time: now,
        };
        Self {
            now,
            token: Token::of(&session),
            session,
            rotations: BTreeMap::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            pending: None,
            signed_out: false,
            stolen: Vec::new(),
            ids: 0,
            verdicts,
        }
    }

    fn is_active(&self) -> bool {
        self.session.status == "ACTIVE"
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Refresh { with_id } => {
                self.send(with_id);
                if let Some(request) = self.pending.clone()
                    && self.is_promised(&request)
                {
                    let answer = self.refresh(Party::Client, &request)?;
                    self.receive(answer);
                }
            }
            Step::Send { with_id } => self.send(with_id),
            Step::Arrive { which, again } => {
                if let Some(request) = pick(&mut self.requests, which, again)
                    && self.is_promised(&request)
                {
                    let answer = self.refresh(Party::Client, &request)?;
                    self.answers.push(answer);
                }
            }
            Step::LoseRequest { which } => drop(pick(&mut self.requests, which, false)),
            Step::Answer { which, again } => {
                if let Some(answer) = pick(&mut self.answers, which, again) {
                    self.receive(answer);
                }
            }
            Step::LoseAnswer { which } => drop(pick(&mut self.answers, which, false)),
            Step::Wait { seconds } => self.now += TimeDelta::seconds(seconds),
            Step::Steal => self.stolen.push(self.token.clone()),
            Step::Thieve { which, with_id } => {
                if let Some(token) = pick(&mut self.stolen, which, true) {
                    let request = Request { token, id: with_id.then(|| self.id()) };
                    let (_, successor) = self.refresh(Party::Thief, &request)?;
                    self.stolen.extend(successor);
                }
            }
        }
        Ok(())
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    fn send(&mut self, with_id: bool) {
        if self.signed_out {
            return;
        }
        let request = match self.pending.take() {
            Some(request) => request,
            None => Request { token: self.token.clone(), id: with_id.then(|| self.id()) },
        };
        self.pending = Some(request.clone());
        self.requests.push(request);
    }

    fn receive(&mut self, (generation, successor): Answer) {
        // What answers an older request says nothing new.
        if generation != self.token.generation {
            return;
        }
        self.pending = None;
        match successor {
            Some(successor) => self.token = successor,
            None => self.signed_out = true,
        }
    }

    /// False for a repetition that nothing is promised of: without its id after the grace, or after more than what is remembered.
    fn is_promised(&self, request: &Request) -> bool {
        let behind = self.session.generation - request.token.generation;
        let is_own = self.rotations.get(&request.token.generation).is_some_and(|rotation| rotation.by == Party::Client);
        !is_own
            || match request.id {
                Some(_) => behind <= REMEMBERED,
                None => behind == 1 && self.now - self.session.rotated_at <= GRACE,
            }
    }

    /// The service refreshes, as `TokenService.Refresh` does around the locked row.
    fn refresh(&mut self, party: Party, request: &Request) -> Result<Answer, TestCaseError> {
        let generation = request.token.generation;
        let presented = Presented::new(generation, request.id);
        let verdict = judge(&self.session, true, presented, self.now, false);
        self.verdicts.borrow_mut().insert(format!("{verdict:?}"));
        let successor = match verdict {
            Verdict::Rotate => {
                // Another key each time: a replay has to name the one that signed first.
                let kid = format!("k{}", self.now.timestamp());
                self.session = self.session.rotated(presented, &kid, self.now, LIFETIME);
                let successor = Token::of(&self.session);
                let rotation = Rotation { by: party, at: self.now, successor: successor.clone() };
                require(self.rotations.insert(generation, rotation).is_none(), "a generation is rotated once")?;
                Some(successor)
            }
            Verdict::Replay => {
                self.session.replays += 1;
                Some(Token::of(&self.session))
            }
            Verdict::LateDuplicate | Verdict::Ended => None,
            Verdict::Reuse => {
                "ENDED".clone_into(&mut self.session.status);
                None
            }
            Verdict::TooManyReplays | Verdict::Ends(_) | Verdict::Restored => {
                return Err(TestCaseError::fail(format!("nothing here leads to {verdict:?}")));
            }
        };
        let rotation = self.rotations.get(&generation);
        if let Some(successor) = &successor {
            require(rotation.is_some_and(|rotation| rotation.successor == *successor), "a generation has one successor")?;
        }
        if let Some(rotation) = rotation
            && rotation.by != party
            && (self.now - rotation.at > GRACE || self.session.generation - generation > 1)
        {
            require(!self.is_active(), "two who have used one generation are told apart after the grace")?;
        }
        Ok((generation, successor))
    }
}

/// One of those on their way, which stays there where it comes again.
fn pick<T: Clone>(from: &mut Vec<T>, which: Index, again: bool) -> Option<T> {
    match from.len() {
        0 => None,
        len if again => Some(from[which.index(len)].clone()),
        len => Some(from.swap_remove(which.index(len))),
    }
}

fn require(holds: bool, promise: &'static str) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(promise)) }
}

/// Runs `story` for random steps, and answers the verdicts that occurred.
fn explore(with_thief: bool, story: impl Fn(World<'_>, Vec<Step>) -> Result<(), TestCaseError>) -> BTreeSet<String> {
    let verdicts = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(step(with_thief), 0..STEPS);
    if let Err(failure) = runner.run(&steps, |steps| story(World::new(&verdicts), steps)) {
        panic!("{failure}");
    }
    verdicts.into_inner()
}

#[test]
fn no_honest_client_is_ever_logged_out() {
    let verdicts = explore(false, |mut world, steps| {
        for step in steps {
            world.take(step)?;
            require(world.is_active() && !world.signed_out, "the session goes on")?;
        }
        world.send(true);
        let last = world.requests.pop().expect("what was sent");
        if world.is_promised(&last) {
            let answer = world.refresh(Party::Client, &last)?;
            require(answer.1.is_some(), "the client can go on")?;
        }
        Ok(())
    });
    assert_eq!(verdicts.iter().map(String::as_str).collect::<Vec<_>>(), ["LateDuplicate", "Replay", "Rotate"]);
}

#[test]
fn a_thief_is_found_out_when_both_have_used_one_generation() {
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
