//! A model of refresh token rotation: the service's own `judge` and rotation, a network that delays, duplicates and loses messages, an
//! honest client that retries, and a thief with a copy of a refresh token.

mod every_state;
mod random_scenarios;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use auth_service::sessions::{FIRST_PARTY, Lifetime, Presented, Session, SessionStatus, Verdict, judge};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// The promised limits. They are not taken from the service, so that the model detects a change of its constants.
const GRACE: TimeDelta = TimeDelta::seconds(10);
const REMEMBERED_REQUESTS: i64 = 16;

const LIFETIME: Lifetime = Lifetime { idle: TimeDelta::days(14), absolute: TimeDelta::days(90) };

/// A step of the model. `which` is an index modulo the number of available messages or tokens.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The client refreshes and gets the response at once.
    Refresh {
        with_id: bool,
    },
    /// The client sends its refresh token: a new request with or without a request id, or a repetition of its pending request.
    Send {
        with_id: bool,
    },
    /// A request reaches the service. With `again`, a copy stays in flight.
    Arrive {
        which: usize,
        again: bool,
    },
    LoseRequest {
        which: usize,
    },
    /// A response reaches the client. With `again`, a copy stays in flight.
    Answer {
        which: usize,
        again: bool,
    },
    LoseAnswer {
        which: usize,
    },
    Wait {
        seconds: i64,
    },
    /// The thief copies the client's current token.
    Steal,
    /// The thief refreshes with one of its stolen tokens.
    Thieve {
        which: usize,
        with_id: bool,
    },
}

/// The data that determines the bytes of a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    generation: i64,
    kid: String,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl Token {
    fn new(session: &Session) -> Self {
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

/// A violated promise.
struct BrokenPromise(String);

impl fmt::Display for BrokenPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The presented generation, and its successor if the refresh succeeded.
type Answer = (i64, Option<Token>);

/// The first rotation of a generation.
#[derive(Debug, Clone)]
struct Rotation {
    by: Party,
    at: DateTime<Utc>,
    successor: Token,
}

#[derive(Clone)]
struct World<'a> {
    now: DateTime<Utc>,
    session: Session,
    rotations: BTreeMap<i64, Rotation>,
    requests: Vec<Request>,
    answers: Vec<Answer>,
    /// The client's token, and the request whose response it waits for.
    token: Token,
    pending: Option<Request>,
    signed_out: bool,
    stolen: Vec<Token>,
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
            status: SessionStatus::Active,
            idle_expires_at: now + LIFETIME.idle,
            absolute_expires_at: now + LIFETIME.absolute,
            user_agent: String::new(),
            address: String::new(),
            create_time: now,
        };
        Self {
            now,
            token: Token::new(&session),
            session,
            rotations: BTreeMap::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            pending: None,
            signed_out: false,
            stolen: Vec::new(),
            verdicts,
        }
    }

    fn is_active(&self) -> bool {
        self.session.status == SessionStatus::Active
    }

    fn take(&mut self, step: Step) -> Result<(), BrokenPromise> {
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
                    let request = Request { id: with_id.then(|| id(Party::Thief, token.generation)), token };
                    let (_, successor) = self.refresh(Party::Thief, &request)?;
                    self.stolen.extend(successor);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, with_id: bool) {
        if self.signed_out {
            return;
        }
        let request = match self.pending.take() {
            Some(request) => request,
            None => Request { token: self.token.clone(), id: with_id.then(|| id(Party::Client, self.token.generation)) },
        };
        self.pending = Some(request.clone());
        self.requests.push(request);
    }

    fn receive(&mut self, (generation, successor): Answer) {
        // A response to an older request is ignored.
        if generation != self.token.generation {
            return;
        }
        self.pending = None;
        match successor {
            Some(successor) => self.token = successor,
            None => self.signed_out = true,
        }
    }

    /// Returns `false` for a repetition that may fail: without a request id after the grace period, or too many rotations later.
    fn is_promised(&self, request: &Request) -> bool {
        let behind = self.session.generation - request.token.generation;
        let is_own = self.rotations.get(&request.token.generation).is_some_and(|rotation| rotation.by == Party::Client);
        !is_own
            || match request.id {
                Some(_) => behind <= REMEMBERED_REQUESTS,
                None => behind == 1 && self.now - self.session.rotated_at <= GRACE,
            }
    }

    /// Refreshes as `TokenService.Refresh` does with the locked row.
    fn refresh(&mut self, party: Party, request: &Request) -> Result<Answer, BrokenPromise> {
        let generation = request.token.generation;
        let presented = Presented::new(generation, request.id);
        let verdict = judge(&self.session, true, presented, self.now, false);
        self.verdicts.borrow_mut().insert(format!("{verdict:?}"));
        let successor = match verdict {
            Verdict::Rotate => {
                // The signing key changes each time: a replay must return the key id of the first response.
                let kid = format!("k{}", self.now.timestamp());
                self.session = self.session.rotated(presented, &kid, self.now, LIFETIME);
                let successor = Token::new(&self.session);
                let rotation = Rotation { by: party, at: self.now, successor: successor.clone() };
                require(self.rotations.insert(generation, rotation).is_none(), "a generation is rotated once")?;
                Some(successor)
            }
            Verdict::Replay => {
                self.session.replays += 1;
                Some(Token::new(&self.session))
            }
            Verdict::LateDuplicate | Verdict::Ended => None,
            Verdict::Reuse => {
                self.session.status = SessionStatus::Ended;
                None
            }
            Verdict::TooManyReplays | Verdict::Ends(_) | Verdict::Restored => {
                return Err(BrokenPromise(format!("the model cannot lead to {verdict:?}")));
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
            require(!self.is_active(), "reuse of a generation is detected after the grace period")?;
        }
        Ok((generation, successor))
    }
}

/// Returns the request id of a party for a generation. A party uses one id per generation.
fn id(by: Party, generation: i64) -> Uuid {
    Uuid::from_u128(u128::from(generation.unsigned_abs()) * 2 + u128::from(by == Party::Thief) + 1)
}

/// Takes one item out of `from`, or copies it if `again` is set.
fn pick<T: Clone>(from: &mut Vec<T>, which: usize, again: bool) -> Option<T> {
    match from.len() {
        0 => None,
        len if again => Some(from[which % len].clone()),
        len => Some(from.swap_remove(which % len)),
    }
}

fn require(holds: bool, promise: &'static str) -> Result<(), BrokenPromise> {
    if holds { Ok(()) } else { Err(BrokenPromise(promise.to_owned())) }
}
