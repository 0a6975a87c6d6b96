//! `auth-server user`, and what each of its words does to logins.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod server_support;

use std::process::Output;

use authservice::server::passwords::Argon2id;
use serde_json::{Value, json};
use server_support::{Database, Engine};

fn prepared(engine: &Engine) -> Database {
    let database = engine.fresh();
    database.admin_migration().succeed();
    database
}

/// Exit code and what is said of the failure.
fn failed(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn a_user_is_created_changed_and_deleted() {
    for engine in Engine::all() {
        let database = prepared(&engine);
        let server = database.serve(&[]);
        let admin = |email: &str, password: &str| {
            let answer = server.validate(&server.token(email, password)).body;
            serde_json::from_str::<Value>(&answer).unwrap()["admin"].clone()
        };
        let created = database.user_done(&["create", "ann@x.io"], "secret of ann\n");
        assert_eq!(created, "user ann@x.io is created with id 1\n");
        assert_eq!(admin("ann@x.io", "secret of ann"), json!(false), "nobody is an admin unasked");
        database.user_done(&["create", "--admin", "bob@x.io"], "secret of bob");
        assert_eq!(admin("bob@x.io", "secret of bob"), json!(true));

        let get = |email: &str| {
            serde_json::from_str::<Value>(&database.user_done(&["get", email, "--json"], "")).unwrap()
        };
        let shown =
            json!({"id": 1, "email": "ann@x.io", "admin": false, "disabled": false, "password": "argon2"});
        assert_eq!(get("ann@x.io"), shown);
        assert_eq!(
            database.user_done(&["change", "ann@x.io", "--admin", "--email", "anna@x.io"], ""),
            "user ann@x.io is changed\n"
        );
        assert_eq!(admin("anna@x.io", "secret of ann"), json!(true));
        database.user_done(&["change", "anna@x.io", "--no-admin"], "");
        assert_eq!(admin("anna@x.io", "secret of ann"), json!(false));

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "another secret\n").unwrap();
        let path = file.path().to_str().unwrap();
        database.user_done(&["set-password", "anna@x.io", "--file", path], "");
        server.token("anna@x.io", "another secret");
        assert_eq!(server.login("anna@x.io", "secret of ann").status, 401);

        database.user_done(&["disable", "anna@x.io"], "");
        assert_eq!(get("anna@x.io")["disabled"], json!(true));
        assert_eq!(server.login("anna@x.io", "another secret").status, 401);
        database.user_done(&["enable", "anna@x.io"], "");
        server.token("anna@x.io", "another secret");
        assert_eq!(database.user_done(&["delete", "anna@x.io"], ""), "user anna@x.io is deleted\n");
        assert_eq!(server.login("anna@x.io", "another secret").status, 401);
        assert_eq!(
            failed(&database.user(&["get", "anna@x.io"], "")),
            (
                Some(3),
                "auth-server: there is no user \"anna@x.io\"; e-mails are compared exactly\n".to_owned()
            )
        );
    }
}

/// Ann is deleted, and `again` gives something of hers to another user of this e-mail and password: hers
/// are refused, the other's tokens are not.
fn brings_no_token_back(email: &str, password: &str, again: impl Fn(&Database)) {
    for engine in Engine::all() {
        let database = prepared(&engine);
        database.user_done(&["create", "ann@x.io"], "secret of ann");
        let server = database.serve(&[("REVOCATION_LAG", "1s")]);
        let former = server.token("ann@x.io", "secret of ann");
        database.user_done(&["delete", "ann@x.io"], "");
        again(&database);
        let another = server.token(email, password);
        server.soon_refuses(&former, std::time::Duration::from_secs(1));
        assert_eq!(server.validate(&another).status, 200);
    }
}

#[test]
fn an_id_that_is_used_again_brings_no_token_of_the_former_user_back() {
    brings_no_token_back("bob@x.io", "secret of bob", |database| {
        database.sql().run(&format!("ALTER TABLE `{}`.user AUTO_INCREMENT = 1", database.name));
        let created = database.user_done(&["create", "bob@x.io"], "secret of bob");
        assert_eq!(created, "user bob@x.io is created with id 1\n");
    });
}

#[test]
fn an_email_that_is_used_again_brings_no_token_of_the_former_user_back() {
    brings_no_token_back("ann@x.io", "secret of another", |database| {
        database.user_done(&["create", "ann@x.io"], "secret of another");
    });
}

#[test]
fn users_are_listed_page_by_page() {
    for engine in Engine::all() {
        let database = prepared(&engine);
        database.sql().run(&format!(
            "INSERT INTO `{}`.user (email, password) VALUES ('a@x.io', 'in plain text'), ('b@x.io', '$2b$12$unknown'), ('c@x.io', '')",
            database.name
        ));
        let listed = |words: &[&str]| {
            let output = database.user_with(&[("LEGACY_PASSWORD_FORMATS", "plaintext")], words, "");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(
            listed(&["list", "--limit", "2"]),
            "ID         ADMIN  DISABLED  PASSWORD   EMAIL\n\
             1          yes    no        plaintext  a@x.io\n\
             2          yes    no        unusable   b@x.io\n\
             There are more: --after 2\n",
            "adopted rows are admins, as they were"
        );
        let page = |after: &str| {
            serde_json::from_str::<Value>(&database.user_done(&["list", "--after", after, "--json"], ""))
                .unwrap()
        };
        assert_eq!(
            page("2"),
            json!([{"id": 3, "email": "c@x.io", "admin": true, "disabled": false, "password": "unusable"}])
        );
        assert_eq!(page("3"), json!([]));
    }
}

#[test]
fn a_ready_hash_is_imported_and_anything_else_is_not() {
    const ACCEPTED: [(&str, &str); 1] = [("LEGACY_PASSWORD_FORMATS", "bcrypt,plaintext")];
    /// From the documentation of an implementation of bcrypt.
    const BCRYPT: &str = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
    for engine in Engine::all() {
        let database = prepared(&engine);
        let hash = Argon2id::default().hash(b"secret of ann").unwrap();
        database.user_done(&["import", "ann@x.io"], &format!("{hash}\n"));
        let imported = database.user_with(&ACCEPTED, &["import", "bob@x.io"], BCRYPT);
        assert!(imported.status.success(), "{imported:?}");
        let server = database.serve(&ACCEPTED);
        server.token("ann@x.io", "secret of ann");
        server.token("bob@x.io", "abc123xyz");
        let no_hash =
            "this is no hash of a form that is verified here; auth-server hash makes one from a password";
        for (text, fault) in [
            ("Admin123", no_hash),
            ("$2b$12$R9h/cIPz0gi", no_hash),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ", no_hash),
            (
                "$argon2id$v=19$m=4000000,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
                "this hash takes more time or memory than one may, or less than its standard asks for",
            ),
        ] {
            let refused = failed(&database.user_with(&ACCEPTED, &["import", "carl@x.io"], text));
            assert_eq!(refused, (Some(1), format!("auth-server: {fault}\n")), "{text}");
        }
        assert_eq!(
            failed(&database.user(&["import", "carl@x.io"], BCRYPT)).1,
            "auth-server: this is a hash of format bcrypt, which would log nobody in: name bcrypt in passwords.legacyFormats \
             (LEGACY_PASSWORD_FORMATS)\n"
        );
    }
}

#[test]
fn faults_are_named_and_nothing_is_done() {
    for engine in Engine::all() {
        let database = prepared(&engine);
        database.user_done(&["create", "ann@x.io"], "secret of ann");
        database.user_done(&["create", "bob@x.io"], "secret of bob");
        let before = database.sql().rows(&format!("SELECT * FROM `{}`.user", database.name));
        let faults: [(&[&str], &str, i32, &str); 9] = [
            (&["create", "carl@x.io"], "short\n", 1, "the password has 5 characters, the least is 8"),
            (
                &["create", "carl@x.io"],
                "",
                1,
                "the password is empty: pipe it in, or name its file with --file",
            ),
            (
                &["create", "carl:x@x.io"],
                "long enough",
                1,
                "\"carl:x@x.io\" cannot log in by HTTP Basic: use an e-mail",
            ),
            (&["create", "ann@x.io"], "long enough", 4, "e-mail \"ann@x.io\" is taken"),
            (&["change", "bob@x.io", "--email", "ann@x.io"], "", 4, "e-mail \"ann@x.io\" is taken"),
            (&["disable", "ANN@x.io"], "", 3, "there is no user \"ANN@x.io\""),
            (
                &["set-password", "ann@x.io", "--file", "/nowhere"],
                "",
                1,
                "the password cannot be read from /nowhere",
            ),
            (&["change", "ann@x.io"], "", 2, "the following required arguments were not provided"),
            (&["create", "ann@x.io", "a password"], "", 2, "unexpected argument 'a password' found"),
        ];
        for (words, input, code, fault) in faults {
            let (found, told) = failed(&database.user(words, input));
            assert_eq!(found, Some(code), "{words:?}: {told}");
            assert!(told.contains(fault), "{words:?}: {told}");
        }
        assert_eq!(database.sql().rows(&format!("SELECT * FROM `{}`.user", database.name)), before);

        let mut elsewhere = engine.fresh();
        elsewhere.via = server_support::free_address();
        let (code, told) = failed(&elsewhere.user(&["list"], ""));
        assert_eq!(code, Some(1));
        assert!(told.contains("cannot be reached: Connection refused"), "{told}");
        let nothing = std::process::Command::new(server_support::BINARY)
            .args(["user", "list"])
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(failed(&nothing).0, Some(78));
    }
}

#[test]
fn an_email_is_taken_also_where_the_column_would_hold_it_twice() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.sql().run(&format!("ALTER TABLE `{}`.user DROP INDEX email", database.name));
        database.admin_migration().succeed();
        database.user_done(&["create", "ann@x.io"], "secret of ann");
        database.user_done(&["disable", "ann@x.io"], "");
        let users = || database.user_done(&["list", "--json"], "");
        let before = users();
        for words in
            [&["create", "--admin", "ann@x.io"][..], &["change", "georgio@email.com", "--email", "ann@x.io"]]
        {
            let (code, told) = failed(&database.user(words, "long enough"));
            assert_eq!(code, Some(4), "{told}");
        }
        assert_eq!(users(), before);
    }
}

#[test]
fn without_our_tables_the_database_says_which_is_missing() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT, INSERT, UPDATE, DELETE");
        for words in [&["list"][..], &["disable", "georgio@email.com"], &["create", "--admin", "ann@x.io"]] {
            let (code, told) = failed(&database.user(words, "long enough"));
            assert_eq!(code, Some(1));
            assert!(told.contains(".authservice_"), "{words:?}: {told}");
            assert!(told.contains("Create what is missing, or give admin credentials"), "{words:?}: {told}");
        }
        assert_eq!(database.sql().rows("SELECT COUNT(*) FROM user"), [["1"]], "nobody is half created");
    }
}
