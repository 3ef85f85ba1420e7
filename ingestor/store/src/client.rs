//! The client: what the ingestor and the commands need of ClickHouse, embedded or not.
//!
//! A thin layer over the crate `clickhouse`. It sets what must not be left to a server's defaults
//! (`async_insert` above all, which is on in 26.x), gives everything a time limit, and says of each
//! error whether another attempt is worth it.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::query::BytesCursor;
use clickhouse::{Client, Compression, Row, RowOwned, RowRead, RowWrite};
use tokio::time::timeout;
use weir_schemas::clickhouse::DATABASE;

use crate::caps::{INSERT_TIME_MAX, MIGRATION_TIME_MAX, PING_TIME_MAX, QUERY_TIME_MAX};
use crate::error::exception_code;

/// The `log_comment` of Weir's inserts. With a deadline it is `weir-insert by 1700000000000000`, which the
/// constraint `sent_in_time` of the tables reads.
const INSERT_MARK: &str = "weir-insert";

/// Where ClickHouse is.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `http://host:8123` or `https://…`.
    pub url: String,
    /// Empty for a store that asks for none.
    pub user: String,
    pub password: String,
}

impl StoreConfig {
    /// A store that asks for no password.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: String::new(),
            password: String::new(),
        }
    }

    /// The same for a user.
    #[must_use]
    pub fn user(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
            ..self
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The same again may succeed: the store is away, busy, full, or slow.
    Transient,
    /// The data is at fault: the batch holds a row that no attempt will store.
    Poison,
    /// Something must be changed first: the address, the password, the tables, the program.
    Permanent,
}

/// What went wrong with the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{context}: {message}")]
pub struct StoreError {
    pub class: ErrorClass,
    /// ClickHouse's number for the error, if it was ClickHouse that answered.
    pub code: Option<u32>,
    /// What was being done.
    pub context: String,
    pub message: String,
}

impl StoreError {
    pub(crate) fn permanent(context: &str, message: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::Permanent,
            code: None,
            context: context.to_owned(),
            message: message.into(),
        }
    }

    fn timed_out(context: &str, within: Duration) -> Self {
        Self {
            class: ErrorClass::Transient,
            code: None,
            context: context.to_owned(),
            message: format!("no answer within {} s", within.as_secs()),
        }
    }

    /// Adds to an error of the crate what was being done.
    #[must_use]
    pub fn new(context: &str, error: &clickhouse::error::Error) -> Self {
        let code = match error {
            clickhouse::error::Error::BadResponse(text) => exception_code(text),
            _ => None,
        };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(next) = cause {
            let next_text = next.to_string();
            if !message.ends_with(&next_text) {
                message = format!("{message}: {next_text}");
            }
            cause = next.source();
        }
        Self {
            class: class(error, code),
            code,
            context: context.to_owned(),
            message,
        }
    }
}

fn class(error: &clickhouse::error::Error, code: Option<u32>) -> ErrorClass {
    use clickhouse::error::Error;
    match error {
        Error::Network(_) | Error::TimedOut | Error::NotEnoughData => ErrorClass::Transient,
        // Without a number it was a proxy that answered, or a server on its way down.
        Error::BadResponse(_) => code.map_or(ErrorClass::Transient, class_of_code),
        Error::SequenceMustHaveLength | Error::InvalidUtf8Encoding(_) | Error::Custom(_) => {
            ErrorClass::Poison
        }
        _ => ErrorClass::Permanent,
    }
}

/// Sorts ClickHouse's errors. An unknown one is taken for transient: trying again loses nothing.
fn class_of_code(code: u32) -> ErrorClass {
    match code {
        // Cannot parse this or that, out of range, too large, null where none may be, a constraint.
        6 | 25 | 26 | 27 | 32 | 33 | 38 | 41 | 53 | 69 | 70 | 72 | 117 | 128 | 131 | 321 | 349
        | 376 | 407 | 441 | 469 | 675 | 676 => ErrorClass::Poison,
        // No such column, table, database, setting, function, type, user; not allowed; no SQL.
        10 | 15 | 16 | 20 | 36 | 43 | 44 | 46 | 47 | 48 | 50 | 56 | 60 | 62 | 63 | 73 | 78 | 80
        | 81 | 115 | 164 | 192 | 193 | 194 | 336 | 497 | 511 | 512 | 516 => ErrorClass::Permanent,
        _ => ErrorClass::Transient,
    }
}

/// What must not be left to a server's defaults. `async_insert` is on in 26.x, where tokens have bled
/// from one insert into another; deduplication can be off.
fn insert_settings(token: &str, deadline_us: Option<u64>) -> [(&'static str, Cow<'_, str>); 5] {
    let mark = match deadline_us {
        None => INSERT_MARK.into(),
        Some(deadline_us) => format!("{INSERT_MARK} by {deadline_us}").into(),
    };
    [
        ("async_insert", "0".into()),
        ("wait_end_of_query", "1".into()),
        ("insert_deduplicate", "1".into()),
        ("insert_deduplication_token", token.into()),
        ("log_comment", mark),
    ]
}

/// What Weir's own statements mean must not depend on the profile of the server's user either.
const OWN_SETTINGS: [(&str, &str); 6] = [
    ("join_use_nulls", "0"),
    ("join_default_strictness", "ALL"),
    ("aggregate_functions_null_for_empty", "0"),
    ("transform_null_in", "0"),
    ("prefer_column_name_to_alias", "0"),
    ("data_type_default_nullable", "0"),
];

/// A store, wherever it is. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// With [`OWN_SETTINGS`].
    client: Client,
    /// With the settings of the server's user.
    plain: Client,
    url: String,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Prepares a client. Nothing is sent yet.
    pub fn connect(config: &StoreConfig) -> Result<Self, StoreError> {
        let scheme = config.url.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("http" | "https")) {
            return Err(StoreError::permanent(
                "read the store's URL",
                format!("{:?} does not start with http:// or https://", config.url),
            ));
        }
        let mut client = Client::default().with_url(&config.url);
        if is_on_this_machine(&config.url) {
            // Nothing is won by making it smaller.
            client = client.with_compression(Compression::None);
        }
        if !config.user.is_empty() {
            client = client
                .with_user(&config.user)
                .with_password(&config.password);
        }
        let plain = client.clone();
        for (name, value) in OWN_SETTINGS {
            client = client.with_setting(name, value);
        }
        Ok(Self {
            client,
            plain,
            url: config.url.clone(),
        })
    }

    /// Where the store is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the store answers, and lets us in.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let query = self.client.query("SELECT 1").fetch_one::<u8>();
        let context = "ask the store whether it is there";
        within(PING_TIME_MAX, context, query).await.map(drop)
    }

    /// Stores rows in a table of Weir's.
    ///
    /// The batch is stored whole or not at all, as long as it falls into one partition: one day. The
    /// same token again stores nothing, as a rule; after a kill at the wrong moment it may, so what
    /// is stored must be asked of the rows themselves.
    pub async fn insert<R: Row + RowWrite>(
        &self,
        table: &str,
        rows: &[R::Value<'_>],
        token: &str,
    ) -> Result<(), StoreError> {
        self.insert_until::<R>(table, rows, token, None).await
    }

    /// The same, if the statement begins by a time of the store's clock (microseconds since 1970). An
    /// event table refuses it later, however long it was on its way or its sender stopped.
    pub async fn insert_until<R: Row + RowWrite>(
        &self,
        table: &str,
        rows: &[R::Value<'_>],
        token: &str,
        deadline_us: Option<u64>,
    ) -> Result<(), StoreError> {
        let context = format!("insert {} rows into {table}", rows.len());
        let failed = |error| StoreError::new(&context, &error);
        let client = self.in_database();
        // The columns' types are asked for once, and remembered by the client.
        let insert = within(INSERT_TIME_MAX, &context, client.insert::<R>(table)).await?;
        let limit = Some(INSERT_TIME_MAX);
        let mut insert = insert.with_timeouts(limit, limit);
        for (name, value) in insert_settings(token, deadline_us) {
            insert = insert.with_setting(name, value);
        }
        for row in rows {
            insert.write(row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// How many of Weir's inserts run in the store that began at least so long ago, from any sender:
    /// one whose sender is gone, or whose connection broke, may still run to its end.
    pub async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError> {
        let query = self
            .query(
                "SELECT count() FROM system.processes WHERE elapsed >= {elapsed:Float64} \
                 AND startsWith(Settings['log_comment'], {mark:String})",
            )
            .param("elapsed", began_before.as_secs_f64())
            .param("mark", INSERT_MARK);
        Ok(self.fetch::<u64>(query).await?.into_iter().sum())
    }

    /// Asks a question; what comes back is made into rows. Values go in with [`Query::param`] or
    /// `bind`.
    ///
    /// [`Query::param`]: clickhouse::query::Query::param
    pub async fn fetch<R: RowOwned + RowRead>(&self, query: Query) -> Result<Vec<R>, StoreError> {
        within(QUERY_TIME_MAX, "ask the store", query.fetch_all::<R>()).await
    }

    /// A question to be filled with values and handed to [`Store::fetch`].
    pub fn query(&self, sql: &str) -> Query {
        self.in_database().query(sql)
    }

    /// Runs one statement that gives no rows.
    pub(crate) async fn execute(&self, context: &str, sql: &str) -> Result<(), StoreError> {
        // DDL is awaited: a mutation that a migration starts has ended when this returns.
        let query = self
            .client
            .query_raw(sql)
            .with_setting("mutations_sync", "1")
            .with_setting("max_execution_time", "0");
        within(MIGRATION_TIME_MAX, context, query.execute()).await
    }

    /// Sends a statement of Weir's and returns what comes back, as it comes, in the format given (or in
    /// the one that the statement names).
    pub fn raw_query(&self, sql: &str, format: &str) -> Result<RawAnswer, StoreError> {
        self.raw_query_with(sql, format, &[])
    }

    /// The same with further settings.
    pub fn raw_query_with(
        &self,
        sql: &str,
        format: &str,
        settings: &[(&str, &str)],
    ) -> Result<RawAnswer, StoreError> {
        let client = self.in_database();
        let client = settings.iter().fold(client, |client, (name, value)| {
            client.with_setting(*name, *value)
        });
        raw_query(client, sql, format)
    }

    /// The same for somebody else's statement, which runs with the settings of the server's user.
    pub fn raw_query_of_user(&self, sql: &str, format: &str) -> Result<RawAnswer, StoreError> {
        raw_query(self.plain.clone().with_database(DATABASE), sql, format)
    }

    fn in_database(&self) -> Client {
        self.client.clone().with_database(DATABASE)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

fn raw_query(client: Client, sql: &str, format: &str) -> Result<RawAnswer, StoreError> {
    let cursor = client.query_raw(sql).fetch_bytes(format);
    let cursor = cursor.map_err(|error| StoreError::new("send the statement", &error))?;
    Ok(RawAnswer { cursor })
}

/// ClickHouse's error message without its number and the server's version.
#[must_use]
pub fn message_of(message: &str) -> &str {
    let message = message.trim();
    let message = message.strip_prefix("bad response: ").unwrap_or(message);
    let message = message.split(" (version ").next().unwrap_or(message);
    message
        .split_once("DB::Exception: ")
        .map_or(message, |(_, text)| text)
}

fn is_on_this_machine(url: &str) -> bool {
    let url = url.parse::<http::Uri>().unwrap_or_default();
    let host = url.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A question, before it is asked.
pub type Query = clickhouse::query::Query;

async fn within<T>(
    limit: Duration,
    context: &str,
    work: impl Future<Output = clickhouse::error::Result<T>>,
) -> Result<T, StoreError> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| StoreError::new(context, &error)),
        Err(_) => Err(StoreError::timed_out(context, limit)),
    }
}

/// The answer to a raw query, on its way.
pub struct RawAnswer {
    cursor: BytesCursor,
}

impl fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawAnswer").finish_non_exhaustive()
    }
}

impl RawAnswer {
    /// The next bytes; None at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.cursor
            .next()
            .await
            .map_err(|error| StoreError::new("read the answer", &error))
    }

    /// All the bytes.
    pub async fn collect(&mut self) -> Result<Bytes, StoreError> {
        let collected = self.cursor.collect().await;
        collected.map_err(|error| StoreError::new("read the answer", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickhouse::error::Error;

    fn check(error: &Error, class: ErrorClass, code: Option<u32>) {
        let error = StoreError::new("do it", error);
        assert_eq!((error.class, error.code), (class, code), "{error}");
    }

    #[test]
    fn errors_are_sorted_by_what_to_do() {
        let answer = |text: &str| Error::BadResponse(text.to_owned());
        check(&Error::TimedOut, ErrorClass::Transient, None);
        check(
            &Error::Network("refused".into()),
            ErrorClass::Transient,
            None,
        );
        check(&answer("502 Bad Gateway"), ErrorClass::Transient, None);
        check(
            &answer("Code: 252. DB::Exception: Too many parts"),
            ErrorClass::Transient,
            Some(252),
        );
        check(
            &answer("Code: 9999. DB::Exception: unheard of"),
            ErrorClass::Transient,
            Some(9999),
        );
        check(
            &answer("Code: 27. DB::Exception: Cannot parse"),
            ErrorClass::Poison,
            Some(27),
        );
        check(
            &Error::Custom("no such variant".to_owned()),
            ErrorClass::Poison,
            None,
        );
        check(
            &answer("Code: 60. DB::Exception: no table"),
            ErrorClass::Permanent,
            Some(60),
        );
        check(
            &answer("Code: 516. DB::Exception: password"),
            ErrorClass::Permanent,
            Some(516),
        );
        check(
            &Error::SchemaMismatch("a".to_owned()),
            ErrorClass::Permanent,
            None,
        );
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let error = Store::connect(&StoreConfig::new("localhost:8123")).unwrap_err();
        assert_eq!(error.class, ErrorClass::Permanent);
        assert!(error.to_string().contains("localhost:8123"), "{error}");
    }

    #[test]
    fn an_error_is_said_without_its_number_and_version() {
        let message = "bad response: Code: 47. DB::Exception: Unknown identifier `x`. \
                       (UNKNOWN_IDENTIFIER) (version 26.7.2.1)\n";
        assert_eq!(
            message_of(message),
            "Unknown identifier `x`. (UNKNOWN_IDENTIFIER)"
        );
        assert_eq!(message_of("network error"), "network error");
    }

    #[test]
    fn this_machine_is_known() {
        for here in [
            "http://127.0.0.1:8123",
            "http://u:p@localhost",
            "http://[::1]:8123/?a=b",
        ] {
            assert!(is_on_this_machine(here), "{here}");
        }
        for there in [
            "http://10.0.0.1:8123",
            "https://localhost.example",
            "http://[fe80::1]",
        ] {
            assert!(!is_on_this_machine(there), "{there}");
        }
    }

    #[test]
    fn printing_a_config_shows_no_password() {
        let config = StoreConfig {
            url: "http://x".to_owned(),
            user: "u".to_owned(),
            password: "secret".to_owned(),
        };
        assert!(!format!("{config:?}").contains("secret"));
    }
}
