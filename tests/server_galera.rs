//! Tokens that end before their time, where servers write to several members of one Galera cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use server_support::{Database, Engine, Migration, Server, Sql, eventually, http};

const LAG: Duration = Duration::from_secs(1);
/// What is allowed beside the lag: one read of the list, and the moment until a member has applied what
/// another one committed.
const ALLOWANCE: Duration = Duration::from_secs(1);
/// How long members stop that lose sight of one: until it is out, nobody knows what it knew.
const PARTING: Duration = Duration::from_secs(15);
const REVOKED: &str = "Not authorized: revoked";

/// The members, for one test at a time: some tests cut one off.
struct Cluster {
    members: Vec<Engine>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self { members: Engine::galera(), _turn: turn }
    }

    /// A database with these users, whose passwords are `secret of` and their names.
    fn database(&self, users: &[&str]) -> Database {
        let database = self.members[0].fresh();
        with_users(&database, users).succeed();
        database
    }

    /// On two members.
    fn sites(&self, database: &Database) -> [Site; 2] {
        [0, 1].map(|index| Site::on(database, &self.members[index]))
    }

    /// How often the first member gave up a transaction of its own for one of another.
    fn conflicts(&self) -> u64 {
        let names = "('wsrep_local_cert_failures', 'wsrep_local_bf_aborts')";
        let query = format!("SHOW GLOBAL STATUS WHERE Variable_name IN {names}");
        self.members[0].connect().rows(&query).iter().map(|row| row[1].parse::<u64>().unwrap()).sum()
    }
}

/// A database and a server on one member.
struct Site {
    database: Database,
    server: Server,
}

impl Site {
    fn on(database: &Database, member: &Engine) -> Self {
        let database = database.on(member);
        // A password that this member does not know yet counts as no failure.
        let server = database.serve(&[("REVOCATION_LAG", "1s"), ("LOGIN_MAX_FAILURES", "0")]);
        Self { database, server }
    }

    /// A new token, as soon as this member knows the password.
    fn token(&self, user: &str, password: &str) -> String {
        let mut token = String::new();
        eventually("the member lets the user in", ALLOWANCE, || {
            let answer = self.server.login(user, password);
            token = answer.body;
            answer.status == 200
        });
        token
    }

    fn log_out(&self, token: &str) -> Ended {
        let answer = self.server.logout(token);
        assert_eq!(answer.status, 204, "{answer:?}\n{}", self.server.log());
        Ended { token: token.to_owned(), at: Instant::now() }
    }

    /// Runs `auth-server user` on this member.
    fn user(&self, words: &[&str], input: &str) -> Instant {
        self.database.user_done(words, input);
        Instant::now()
    }
}

/// A token, and when somebody was told that it has ended.
struct Ended {
    token: String,
    at: Instant,
}

impl Ended {
    /// Both servers refuse it within the lag.
    fn is_over_on(&self, servers: [&Server; 2]) {
        for server in servers {
            self.is_refused_by(server, LAG + ALLOWANCE);
        }
    }

    /// Waits until a server refuses it, which must not be later than this after it has ended.
    fn is_refused_by(&self, server: &Server, within: Duration) {
        loop {
            let asked = self.at.elapsed();
            let answer = server.validate(&self.token);
            if (answer.status, answer.body.as_str()) == (403, REVOKED) {
                return;
            }
            assert_eq!(answer.status, 200, "{answer:?}\n{}", server.log());
            assert!(asked < within, "still good after {asked:?}\n{}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn with_users(database: &Database, users: &[&str]) -> Migration {
    let migration = database.admin_migration();
    users.iter().fold(migration, |migration, user| migration.user(user, false, Some(&secret(user))))
}

fn secret(user: &str) -> String {
    format!("secret of {user}")
}

/// What one writer ended, and the tokens that are still good.
#[derive(Default)]
struct Deeds {
    ended: Vec<Ended>,
    good: Vec<String>,
}

/// Ends some tokens of one user by logging out, and all of two others by the verbs of `auth-server user`.
/// `ours` and `own` are this writer's alone; at `shared` the other one works too.
fn write(site: &Site, round: usize, [ours, own, shared]: [&str; 3]) -> Deeds {
    let password = |round: usize| if round == 0 { secret(own) } else { format!("{own}, round {round}") };
    let of_shared = site.token(shared, &secret(shared));
    let of_own = site.token(own, &password(round));
    let (mut ended, mut good) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let [out, stays] = [(); 2].map(|()| site.token(ours, &secret(ours)));
        ended.push(site.log_out(&out));
        good.push(stays);
    }
    ended.push(Ended { token: of_shared, at: site.user(&["revoke-tokens", shared], "") });
    ended.push(Ended { token: of_own, at: site.user(&["disable", own], "") });
    assert_eq!(site.server.login(own, &password(round)).status, 401);
    site.user(&["enable", own], "");
    let between = site.token(own, &password(round));
    let next = password(round + 1);
    ended.push(Ended { token: between, at: site.user(&["set-password", own], &next) });
    good.push(site.token(own, &next));
    Deeds { ended, good }
}

#[test]
fn what_two_members_end_at_the_same_time_is_over_on_both_within_the_lag_and_nothing_else_is() {
    const ROUNDS: usize = 8;
    let cluster = Cluster::take();
    let users = [["ann@x.io", "amy@x.io", "both@x.io"], ["bob@x.io", "bea@x.io", "both@x.io"]];
    let database = cluster.database(&["ann@x.io", "amy@x.io", "bob@x.io", "bea@x.io", "both@x.io"]);
    let mut sites = cluster.sites(&database);
    let mut ended = 0;
    for round in 0..ROUNDS {
        let deeds: Vec<Deeds> = thread::scope(|scope| {
            let writers = sites.iter_mut().zip(users);
            let writers: Vec<_> =
                writers.map(|(site, users)| scope.spawn(move || write(site, round, users))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        for Site { server, .. } in &sites {
            for token in deeds.iter().flat_map(|deeds| &deeds.ended) {
                token.is_refused_by(server, LAG + ALLOWANCE);
            }
            for token in deeds.iter().flat_map(|deeds| &deeds.good) {
                let answer = server.validate(token);
                assert_eq!(answer.status, 200, "{answer:?}\n{}", server.log());
            }
        }
        ended += deeds.iter().map(|deeds| deeds.ended.len()).sum::<usize>();
    }
    println!("{ended} tokens ended through two members");
    assert!(ended >= 50, "{ended}");
}

#[test]
fn a_transaction_that_commits_late_on_one_member_counts_although_the_other_wrote_later_rows() {
    let cluster = Cluster::take();
    let database = cluster.database(&["ann@x.io", "bob@x.io"]);
    let [here, there] = &cluster.sites(&database);
    let late_user = here.token("bob@x.io", &secret("bob@x.io"));
    let late_token = here.token("ann@x.io", &secret("ann@x.io"));
    let now_listed = || {
        database
            .sql()
            .rows(&format!("SELECT HEX(token_hash) FROM `{}`.authservice_revoked_token", database.name))
    };
    // What a logout of this token writes, taken back so that it can be written late.
    assert_eq!(there.server.logout(&late_token).status, 204);
    eventually("the first member has it", ALLOWANCE, || !now_listed().is_empty());
    let hash = now_listed()[0][0].clone();
    database.sql().run(&format!("DELETE FROM `{}`.authservice_revoked_token", database.name));
    let here_anew = Site::on(&database, &cluster.members[0]);
    let there_anew = Site::on(&database, &cluster.members[1]);
    let servers = [&here_anew.server, &there_anew.server];

    let mut late = cluster.members[1].connect();
    late.run(&format!(
        "USE `{}`; START TRANSACTION; \
         INSERT INTO authservice_revoked_token (token_hash, expires_at, revoked_at) \
         VALUES (UNHEX('{hash}'), UNIX_TIMESTAMP() + 3600, NOW(6) - INTERVAL 5 MINUTE); \
         INSERT INTO authservice_access (user_id, generation, changed_at) \
         SELECT id, UNIX_TIMESTAMP(), NOW(6) - INTERVAL 5 MINUTE FROM user WHERE email = 'bob@x.io'",
        database.name
    ));
    // Later ids and timestamps, written by both members, are read meanwhile.
    for site in [&here_anew, &there_anew] {
        for _ in 0..5 {
            let ended = site.log_out(&site.token("ann@x.io", &secret("ann@x.io")));
            ended.is_over_on(servers);
        }
    }
    thread::sleep(LAG + ALLOWANCE);
    for server in servers {
        assert_eq!([&late_user, &late_token].map(|token| server.validate(token).status), [200, 200]);
    }
    late.run("COMMIT");
    let at = Instant::now();
    for token in [late_user, late_token] {
        let ended = Ended { token, at };
        ended.is_over_on(servers);
    }
}

/// Raises the generation of every user again and again on one member, until told to end.
fn disturb(mut sql: Sql, name: &str, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        // It may itself be given up.
        let _ = sql.try_run(&format!("UPDATE `{name}`.authservice_access SET generation = generation + 1"));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_given_up_for_another_members_write_is_tried_again_and_never_told_as_done_in_pretence() {
    let cluster = Cluster::take();
    let database = cluster.database(&["ann@x.io", "bob@x.io"]);
    let [here, there] = &cluster.sites(&database);
    let conflicts = cluster.conflicts();
    let before = there.token("ann@x.io", &secret("ann@x.io"));
    here.user(&["revoke-tokens", "ann@x.io"], "");
    let end = AtomicBool::new(false);
    let password = |round: usize| if round == 0 { secret("ann@x.io") } else { format!("password {round}") };
    let (mut rounds, mut refused) = (0, 0);
    thread::scope(|scope| {
        let sql = cluster.members[1].connect();
        scope.spawn(|| disturb(sql, &database.name, &end));
        let _ending = EndOnDrop(&end);
        // About one round in five is hit.
        while rounds < 40 || (cluster.conflicts() == conflicts && rounds < 400) {
            let body = format!(r#"{{"password":"{}"}}"#, password(rounds + 1));
            let old = ("ann@x.io", &*password(rounds));
            let answer = http::password(here.server.public, old, "application/json", &body).unwrap();
            if answer.status != 204 {
                assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
                refused += 1;
                here.user(&["set-password", "ann@x.io"], &password(rounds + 1));
            }
            here.user(&["revoke-tokens", "ann@x.io"], "");
            rounds += 1;
        }
    });
    let conflicts = cluster.conflicts() - conflicts;
    println!("{rounds} rounds, {refused} refused, {conflicts} conflicts");
    assert!(conflicts > 0, "nothing was given up, so nothing is shown");
    assert!(refused < rounds / 2, "{refused} of {rounds}");
    let ended = Ended { token: before, at: Instant::now() };
    ended.is_over_on([&here.server, &there.server]);
    let last = here.token("ann@x.io", &password(rounds));
    eventually("the other member has the same", ALLOWANCE, || there.server.validate(&last).status == 200);
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_token_that_is_logged_out_on_two_members_at_once_has_ended() {
    let cluster = Cluster::take();
    let database = cluster.database(&["ann@x.io"]);
    let sites = cluster.sites(&database);
    let servers = [&sites[0].server, &sites[1].server];
    let conflicts = cluster.conflicts();
    for _ in 0..30 {
        let token = sites[0].token("ann@x.io", &secret("ann@x.io"));
        let answers = thread::scope(|scope| {
            let asked = servers.map(|server| scope.spawn(|| server.logout(&token)));
            asked.map(|answer| answer.join().unwrap())
        });
        let accepted = answers.iter().filter(|answer| answer.status == 204).count();
        let is_known = |answer: &&http::Answer| (answer.status, answer.body.as_str()) == (403, REVOKED);
        assert!(accepted > 0 && accepted + answers.iter().filter(is_known).count() == 2, "{answers:?}");
        let ended = Ended { token, at: Instant::now() };
        ended.is_over_on(servers);
    }
    println!("{} conflicts", cluster.conflicts() - conflicts);
}

/// One member without the others, which go on, until this value is dropped.
struct CutOff<'a> {
    cluster: &'a Cluster,
    sql: Sql,
}

impl<'a> CutOff<'a> {
    fn last_of(cluster: &'a Cluster) -> Self {
        let mut sql = cluster.members[2].connect();
        sql.run("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'");
        Self { cluster, sql }
    }

    /// Waits until the members know.
    fn settle(&mut self) {
        let mut others = self.cluster.members[0].connect();
        eventually("the members know who is left", PARTING, || {
            status(&mut others, "wsrep_cluster_size") == "2" && status(&mut self.sql, "wsrep_ready") == "OFF"
        });
    }

    fn mend(&mut self) {
        self.sql.run("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'");
        eventually("the member is back", Duration::from_mins(1), || {
            status(&mut self.sql, "wsrep_cluster_size") == "3" && status(&mut self.sql, "wsrep_ready") == "ON"
        });
    }
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        let _ = self.sql.try_run("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'");
    }
}

fn status(sql: &mut Sql, name: &str) -> String {
    sql.rows(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))[0][1].clone()
}

#[test]
fn a_member_that_is_cut_off_is_an_outage_for_its_server_alone_and_no_logout_told_as_done_is_lost() {
    let cluster = Cluster::take();
    let database = cluster.database(&["ann@x.io", "bob@x.io"]);
    let (here, lost) = (Site::on(&database, &cluster.members[0]), Site::on(&database, &cluster.members[2]));
    let token = || here.token("ann@x.io", &secret("ann@x.io"));
    let (known, good, unknown) = (lost.log_out(&token()), token(), token());
    known.is_over_on([&here.server, &lost.server]);

    // Through the member that is cut off at some time of it, and as many through another one.
    let streams = [&here.server, &lost.server].map(|server| (server, (0..60).map(|_| token()).collect()));
    let (mut cut, ended) = thread::scope(|scope| {
        let streams = streams.map(|(server, tokens)| scope.spawn(move || log_out_slowly(server, tokens)));
        thread::sleep(Duration::from_millis(500));
        let cut = CutOff::last_of(&cluster);
        (cut, streams.map(|stream| stream.join().unwrap()))
    });
    let told_at = Instant::now();
    cut.settle();
    println!("told as done around the cut: {:?}", ended.each_ref().map(Vec::len));
    assert!(!ended[1].is_empty() && ended[1].len() < 60, "{}", ended[1].len());
    for token in ended.iter().flatten() {
        let ended = Ended { token: token.clone(), at: told_at };
        ended.is_refused_by(&here.server, PARTING);
    }

    // The others go on, and nothing that is done there is known here.
    let meanwhile = here.log_out(&unknown);
    meanwhile.is_refused_by(&here.server, LAG + ALLOWANCE);
    assert_eq!(here.server.validate(&good).status, 200);
    let refused = lost.server.logout(&good);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    assert_eq!(lost.server.login("ann@x.io", &secret("ann@x.io")).status, 503);
    assert!(!lost.database.user(&["disable", "bob@x.io"], "").status.success());
    assert_eq!(lost.server.validate(&known.token).body, REVOKED);
    assert_eq!([&good, &unknown].map(|token| lost.server.validate(token).status), [200, 200]);
    assert!(lost.server.is_ready(), "an outage empties no Service");
    eventually("the list grows old", PARTING, || {
        lost.server.metric("authservice_revocations_age_seconds") >= 5
    });

    cut.mend();
    let back = Instant::now();
    for token in ended.into_iter().flatten().chain([unknown]) {
        Ended { token, at: back }.is_refused_by(&lost.server, LAG + ALLOWANCE + Duration::from_secs(3));
    }
    assert_eq!(lost.server.validate(&good).status, 200);
    let ended = lost.log_out(&good);
    ended.is_over_on([&here.server, &lost.server]);
}

/// Logs out one token after the other; those that were told to have ended.
fn log_out_slowly(server: &Server, tokens: Vec<String>) -> Vec<String> {
    let mut ended = Vec::new();
    for token in tokens {
        let answer = server.logout(&token);
        match answer.status {
            204 => ended.push(token),
            503 => {}
            _ => panic!("{answer:?}\n{}", server.log()),
        }
        thread::sleep(Duration::from_millis(20));
    }
    ended
}

/// Migrates through every member at the same time.
fn migrate_through_all(cluster: &Cluster, database: &Database, users: &[&str]) {
    let migrations = cluster.members.iter().map(|member| with_users(&database.on(member), users));
    let migrations: Vec<Migration> = migrations.collect();
    thread::scope(|scope| {
        let runs: Vec<_> = migrations.iter().map(|migration| scope.spawn(|| migration.succeed())).collect();
        for run in runs {
            run.join().unwrap();
        }
    });
}

#[test]
fn migrations_through_every_member_at_once_end_in_the_schema_of_one() {
    let cluster = Cluster::take();
    let users = ["ann@x.io", "bob@x.io", "bea@x.io"];
    let database = cluster.database(&users);
    let expected = database.state();
    for _ in 0..3 {
        database.reset();
        migrate_through_all(&cluster, &database, &users);
        eventually("the first member has applied it all", ALLOWANCE, || database.state() == expected);
    }
}

#[test]
fn through_every_member_at_once_a_user_is_created_once_where_the_table_would_take_two() {
    let cluster = Cluster::take();
    for _ in 0..3 {
        let database = cluster.members[0].fresh();
        database.create();
        database.sql().run(&format!(
            "CREATE TABLE `{}`.user (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL, \
             password VARCHAR(255) NOT NULL)",
            database.name
        ));
        migrate_through_all(&cluster, &database, &["ann@x.io", "bob@x.io"]);
        thread::sleep(ALLOWANCE);
        for member in &cluster.members {
            let emails = format!("SELECT email FROM `{}`.user ORDER BY email", database.name);
            assert_eq!(database.on(member).sql().rows(&emails).concat(), ["ann@x.io", "bob@x.io"]);
        }
    }
}

#[test]
fn a_migration_waits_for_a_member_without_the_others_as_for_a_database_that_starts() {
    let cluster = Cluster::take();
    let database = cluster.members[0].fresh();
    let mut cut = CutOff::last_of(&cluster);
    cut.settle();
    let migration = database.on(&cluster.members[2]).admin_migration();
    let report = thread::scope(|scope| {
        let run = scope.spawn(|| migration.succeed());
        thread::sleep(Duration::from_secs(2));
        assert!(!run.is_finished(), "it waits");
        cut.mend();
        run.join().unwrap()
    });
    assert!(report.schema_version > 0, "{report:?}");
}
