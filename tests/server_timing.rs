//! Whether refusals can be told apart by the clock. Alone in its file, since tests beside it would
//! be measured with it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use serde_json::{Value, json};
use server_support::{Database, Engine, Server, python};

fn is_full() -> bool {
    std::env::var_os("TEST_FULL").is_some()
}

const OVERLONG: &str = match std::str::from_utf8(&[b'x'; 1025]) {
    Ok(text) => text,
    Err(_) => unreachable!(),
};

/// What is refused: what it is, whose e-mail, which password.
const KINDS: [(&str, &str, &str); 10] = [
    ("unknown user", "nobody", "wrong"),
    ("plain text", "georgio@email.com", "wrong"),
    ("Argon2id", "argon2", "wrong"),
    ("bcrypt", "bcrypt", "wrong"),
    ("Werkzeug", "werkzeug", "wrong"),
    ("PBKDF2", "pbkdf2", "wrong"),
    ("scrypt, not accepted, and the right password", "scrypt", "a password"),
    ("of no known form", "damaged", "wrong"),
    ("beyond the bounds", "dear", "wrong"),
    ("overlong password", "bcrypt", OVERLONG),
];

/// A table with a row of each kind, and a server that takes most of them.
fn serve(engine: &Engine) -> (Database, Server) {
    let kinds = ["bcrypt 2b", "werkzeug pbkdf2:sha256", "phc pbkdf2", "passlib scrypt", "argon2id, weak"];
    let made = python("passwords.py", &json!({"make": kinds.map(|kind| [kind, "a password"])}));
    let database = engine.fresh();
    database.create_original();
    database.create_account("SELECT, INSERT, UPDATE, DELETE, CREATE");
    database.migration().with(&[("SCHEMA_MODE", "Existing")]).succeed();
    let emails = ["bcrypt", "werkzeug", "pbkdf2", "scrypt", "argon2"];
    for (email, stored) in emails.iter().zip(made["made"].as_array().unwrap()) {
        database.insert(email, stored.as_str().unwrap());
    }
    database.insert("damaged", "$6$salt$hash");
    database.insert("dear", "$2b$31$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW");
    let server = database.serve(&[
        ("LEGACY_PASSWORD_FORMATS", "plaintext,bcrypt,werkzeug,pbkdf2"),
        ("LOGIN_MAX_FAILURES", "0"),
    ]);
    (database, server)
}

/// The times of each kind's refusals, in interleaved rounds. Those answers must be the same.
fn sample(server: &Server, (most_samples, longest): (usize, Duration)) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); KINDS.len()];
    let mut answers: Vec<Value> = Vec::new();
    let mut order: [usize; KINDS.len()] = std::array::from_fn(|kind| kind);
    let begin = Instant::now();
    let mut samples = 0;
    while samples < most_samples && begin.elapsed() < longest {
        // In another order each time, so that nobody always comes after the same neighbour.
        order.shuffle(&mut rand::rng());
        for kind in order {
            let (_, email, password) = KINDS[kind];
            let start = Instant::now();
            let answer = server.login(email, password);
            times[kind].push(start.elapsed().as_secs_f64());
            let mut headers = answer.headers;
            headers.retain(|(name, _)| name != "date");
            answers.push(json!([answer.status, headers, answer.body]));
        }
        samples += 1;
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    times
}

/// Fails unless the medians of all kinds lie within five percent.
fn compare(times: &[Vec<f64>]) {
    let samples = times[0].len();
    // Within a round all kinds meet the same machine, whatever else it does meanwhile.
    let middles: Vec<f64> =
        (0..samples).map(|round| median(times.iter().map(|times| times[round]))).collect();
    let relative: Vec<f64> = times
        .iter()
        .map(|times| median(times.iter().zip(&middles).map(|(time, middle)| time / middle)))
        .collect();
    for (((kind, ..), times), relative) in KINDS.iter().zip(times).zip(&relative) {
        let milliseconds = median(times.iter().copied()) * 1000.0;
        println!("{milliseconds:>8.1} ms  {:>+5.1} %  {kind}", (relative - 1.0) * 100.0);
    }
    let (least, most) = relative
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), relative| (least.min(*relative), most.max(*relative)));
    println!("medians of {samples} samples lie {:.1} % apart", (most / least - 1.0) * 100.0);
    assert!(most / least < 1.05, "{relative:?}");
}

#[test]
fn no_kind_of_refusal_can_be_told_by_its_time() {
    if !is_full() {
        return compare(&sample(&serve(&Engine::mysql()).1, (60, Duration::from_secs(45))));
    }
    for engine in Engine::all() {
        println!("{}", engine.name);
        compare(&sample(&serve(&engine).1, (500, Duration::MAX)));
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
