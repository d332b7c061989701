//! A machine that has grown moves to PostgreSQL: what cannot be moved is refused, a move that is killed goes on, and a server goes on
//! with what waited.

use std::path::Path;

use axum::http::StatusCode;
use bellwether_testkit::database::{Database, Engine};
use bellwether_testkit::receiver::Receiver;
use serde_json::json;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::support::{Home, Output, TIME_LIMIT, is_signed, secret, within};

const RETRY_SECONDS: [u32; 20] = [1; 20];
/// From then on nothing can be copied into a table while somebody else holds the lock.
const WAIT: &str = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
    CREATE TRIGGER wait BEFORE INSERT ON deliveries FOR EACH STATEMENT EXECUTE FUNCTION wait();
    SELECT pg_advisory_lock(1)";
const IS_WAITING: &str = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
    AND query LIKE 'COPY deliveries%' AND wait_event = 'advisory'";

/// A database that a file is moved to, with the key of the file.
struct Target {
    home: Home,
    database: Database,
    key: String,
}

impl Target {
    async fn for_file_of(home: &Home) -> Self {
        let key = std::fs::read_to_string(home.data_dir().join("secret.key")).expect("a key").trim().to_owned();
        let database = Database::temporary_on(Engine::Postgres).await;
        Self { home: Home::on(&database.url()), database, key }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("BELLWETHER_SECRET_KEY", &self.key);
        command
    }

    fn import_of(&self, file: &Path) -> Command {
        self.command(&["import", "sqlite", file.to_str().expect("a path")])
    }

    async fn import(&self, file: &Path) -> Output {
        Output::of(self.import_of(file)).await
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.database.url(), NoTls).await.expect("a connection");
        #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
        tokio::spawn(connection);
        client
    }
}

/// The last line that a command says about what is wrong.
fn problem(output: &Output) -> &str {
    assert_eq!(output.stdout, "", "{output:?}");
    output.stderr.lines().last().and_then(|line| line.strip_prefix("bellwether: ")).unwrap_or_default()
}

#[tokio::test]
async fn a_machine_that_has_grown_moves_and_goes_on_with_what_waited() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let client = home.client(&server).await;
    receiver.behave(503);
    let webhook = json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": RETRY_SECONDS});
    let webhook = client.set_up_with(&[json!({"event_name": "Signup"})], webhook).await;
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let id = receiver.next().await.header("webhook-id").to_owned();
    let (file, target) = (home.database(), Target::for_file_of(&home).await);
    let served = target.import(&file).await;
    assert_eq!(served.code, Some(1));
    assert_eq!(problem(&served), format!("{}: a bellwether serves this database; stop it first", file.display()));
    server.stop().await;

    let (database, before) = (target.database.location(), home.dump());
    assert_eq!(Output::of(target.command(&["migrate"])).await.code, Some(0));
    let holder = target.client().await;
    holder.batch_execute(WAIT).await.expect("a lock");
    let mut killed = target.import_of(&file).kill_on_drop(true).spawn().expect("bellwether starts");
    let waiting = async {
        while holder.query_opt(IS_WAITING, &[]).await.expect("what is under way").is_none() {
            tokio::task::yield_now().await;
        }
    };
    within("the middle of the import", waiting).await;
    killed.kill().await.expect("killed");
    let half = format!(
        "{database}: a SQLite file is being imported, and not everything is there yet: run bellwether import sqlite again to go on"
    );
    for arguments in [&["serve"][..], &["key", "create", "--name", "x"], &["check"]] {
        let refused = Output::of(target.command(arguments)).await;
        assert_eq!((refused.code, problem(&refused)), (Some(1), half.as_str()), "{arguments:?}");
    }
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.expect("the lock");

    let imported = target.import(&file).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let all = format!("{database}: all ");
    assert!(imported.stdout.starts_with(&all) && imported.stdout.contains(" rows of "), "{imported:?}");
    assert_eq!(home.dump(), before, "the file is as it was");
    let again = target.import(&file).await;
    let expected = format!("{database}: everything of {} was imported before\n", file.display());
    assert_eq!((again.code, again.stdout), (Some(0), expected));

    receiver.so_far();
    receiver.behave(200);
    let server = target.home.start(target.command(&["serve"])).await;
    let client = client.moved_to(server.address);
    let arrived = tokio::time::timeout(TIME_LIMIT, receiver.next()).await.expect("what waited");
    assert_eq!(arrived.header("webhook-id"), id);
    assert!(is_signed(&arrived, &secret(&webhook)));
    assert_eq!(client.settled(&webhook).await, 1);
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    assert_ne!(receiver.next().await.header("webhook-id"), id);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_before_anything_is() {
    let home = Home::new();
    let server = home.serve().await;
    home.client(&server).await.set_up(&[], "http://127.0.0.1:9/").await;
    server.stop().await;
    let (file, target) = (home.database(), Target::for_file_of(&home).await);
    let (shown, database) = (file.display(), target.database.location());

    let path = file.to_str().expect("a path");
    let to_a_file = home.run(&["import", "sqlite", path]).await;
    assert_eq!(to_a_file.code, Some(2));
    assert!(problem(&to_a_file).starts_with("BELLWETHER_DATABASE_URL: must be the PostgreSQL database"), "{to_a_file:?}");

    let missing = target.import(Path::new("missing.db")).await;
    assert_eq!((missing.code, problem(&missing)), (Some(1), "missing.db: there is no such file"));

    let other_key = target.home.run(&["import", "sqlite", path]).await;
    let expected = format!(
        "{shown}: its secrets cannot be decrypted: set BELLWETHER_SECRET_KEY to the key that its server had; one that was generated is \
         in secret.key beside the file"
    );
    assert_eq!((other_key.code, problem(&other_key)), (Some(1), expected.as_str()));

    let old = home.path().join("old.db");
    std::fs::copy(&file, &old).expect("a copy");
    let latest = "DELETE FROM refinery_schema_history WHERE version = (SELECT MAX(version) FROM refinery_schema_history)";
    rusqlite::Connection::open(&old).expect("the copy").execute(latest, []).expect("a statement");
    let outdated = target.import(&old).await;
    assert_eq!(outdated.code, Some(1));
    let hint = format!(": run bellwether migrate --database-url sqlite:{}", old.display());
    assert!(problem(&outdated).ends_with(&hint), "{outdated:?}");

    let server = target.home.start(target.command(&["serve"])).await;
    let served = target.import(&file).await;
    let expected = format!("{database}: servers run on this database; stop them first");
    assert_eq!((served.code, problem(&served)), (Some(1), expected.as_str()));
    target.home.client(&server).await;
    server.stop().await;

    let in_use = target.import(&file).await;
    let expected = format!("{database}: the database has data of its own, in the table keys: import into an empty one");
    assert_eq!((in_use.code, problem(&in_use)), (Some(1), expected.as_str()));
}
