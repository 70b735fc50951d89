//! Generates load: writers that change users as fast as possible. Some write to the database, with a random delay before each
//! commit, and roll back one change in ten. The others call the service.

use access::{Clock, Error, Id, UserId};
use auth_service::{
    events::EventLog,
    proto::{
        ActivateUserRequest, CreateUserRequest, DeactivateUserRequest, DeleteUserRequest, UpdateUserRequest, User,
        user_service_client::UserServiceClient,
    },
    usernames::Username,
    users::{self, NewUser, UserNames},
};
use tonic::{Code, Response, Status};

use crate::pair::Authenticated;

type Users = UserServiceClient<Authenticated>;

/// A writer that changes users in the database.
pub struct Writer {
    event_log: EventLog,
    clock: Clock,
    seed: u64,
    users: Vec<UserId>,
    /// The number of committed events.
    pub told: i64,
}

impl Writer {
    pub fn new(event_log: EventLog, clock: Clock, number: u64) -> Self {
        Self { event_log, clock, seed: number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, users: Vec::new(), told: 0 }
    }

    /// Makes this many changes. Ends early with an error if the database fails.
    pub async fn run(mut self, rounds: usize) -> Result<Self, Error> {
        for _ in 0..rounds {
            self.write().await?;
        }
        Ok(self)
    }

    fn random(&mut self, below: u64) -> u64 {
        // xorshift64
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    async fn write(&mut self) -> Result<(), Error> {
        let mut change = loop {
            match self.event_log.begin().await {
                // The database is too busy to begin a transaction in time. The writer tries again.
                Err(error) if error.code() == tonic::Code::Unavailable => {}
                begun => break begun?,
            }
        };
        let username = format!("u{}", Id::<Self>::new(&self.clock));
        let names = |username: &str| UserNames {
            username: Username::new("username", username, None).expect("a username"),
            email: None,
            first_name: String::new(),
            last_name: String::new(),
        };
        let choice = self.random(10);
        let victim = usize::try_from(self.random(1 << 20)).unwrap_or_default();
        let known = (!self.users.is_empty()).then(|| self.users[victim % self.users.len()]);
        let mut made = None;
        let mut gone = None;
        let mut told = 1;
        match known {
            Some(user_id) if choice >= 4 => {
                let user = users::lock(&mut change, user_id).await?.expect("a user of this writer");
                match choice {
                    4 | 5 => drop(users::update(&mut change, &self.clock, &user, &names(&username)).await?),
                    6 => users::set_password(&mut change, &self.clock, user_id, "!", None).await?,
                    7 | 8 => {
                        let is_active = !user.is_active;
                        users::set_active(&mut change, &self.clock, user, is_active).await?;
                    }
                    _ => {
                        users::delete(&mut change, &self.clock, &user).await?;
                        gone = Some(user_id);
                    }
                }
            }
            _ => {
                let new = NewUser { names: names(&username), password_hash: "!".to_owned(), is_superuser: false };
                made = Some(users::create(&mut change, &self.clock, "", &new).await?.user_id);
            }
        }
        for _ in 0..self.random(200) {
            tokio::task::yield_now().await;
        }
        if self.random(10) == 0 {
            told = 0;
            drop(change);
        } else {
            change.commit().await?;
            self.users.extend(made);
            self.users.retain(|user_id| Some(*user_id) != gone);
        }
        self.told += told;
        Ok(())
    }
}

/// Changes users with calls to the service, `rounds` times. Returns the number of events that the changes caused.
pub async fn call(users: Users, number: usize, rounds: usize) -> Result<i64, Status> {
    let mut told = 0;
    for round in 0..rounds {
        let user = User { username: format!("c{number}-{round}"), ..User::default() };
        let new = CreateUserRequest { user: Some(user), password: String::new() };
        let user_id = called(&users, async |users| users.create_user(new.clone()).await).await?.user_id;
        let renamed = User { user_id: user_id.clone(), username: format!("d{number}-{round}"), ..User::default() };
        let rename = UpdateUserRequest { user: Some(renamed), update_mask: None };
        called(&users, async |users| users.update_user(rename.clone()).await).await?;
        let deactivate = DeactivateUserRequest { user_id: user_id.clone() };
        called(&users, async |users| users.deactivate_user(deactivate.clone()).await).await?;
        told += 3;
        if round % 3 == 0 {
            let activate = ActivateUserRequest { user_id: user_id.clone() };
            called(&users, async |users| users.activate_user(activate.clone()).await).await?;
            told += 1;
        }
        if round % 3 == 1 {
            let delete = DeleteUserRequest { user_id, etag: String::new() };
            called(&users, async |users| users.delete_user(delete.clone()).await).await?;
            told += 1;
        }
    }
    Ok(told)
}

/// Makes a call, and repeats it while it fails with UNAVAILABLE, for which a retry is safe.
async fn called<T>(users: &Users, call: impl AsyncFn(&mut Users) -> Result<Response<T>, Status>) -> Result<T, Status> {
    loop {
        match call(&mut users.clone()).await {
            Err(status) if status.code() == Code::Unavailable => {}
            answer => return answer.map(Response::into_inner),
        }
    }
}
