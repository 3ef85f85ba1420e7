//! The command line, as it is typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{BoolValueParser, TypedValueParser as _};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;
use serde::{Serialize, Serializer, ser};
use weir_governance::control::network::Network;
use weir_governance::control::record::{
    AdminRole, BudgetRecord, CaptureMode, Dimension, SampleShare, Scope, UnboundedCalls,
    UnpricedCalls, Usd,
};
use weir_store::StoreUser;

use crate::command::audit::calls::CALL_COLUMNS;

/// The default data directory.
pub(crate) const DATA_DIR: &str = "weir-data";

/// Self-hosted LLM gateway whose bill, audit trail and routing come from one event log.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Configuration file; `weir config example` prints one.
    #[arg(long, global = true, value_name = "FILE", env = "WEIR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the journal, the keys and the embedded store.
    #[arg(long, global = true, value_name = "DIR", env = "WEIR_DATA_DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// Format of the logs on stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on one machine: gateway, ingestor, event log and store.
    Up {
        /// Add mock providers, keys for a few teams and some traffic.
        #[arg(long)]
        demo: bool,
        #[command(flatten)]
        reload: ReloadArgs,
    },
    /// Run only a gateway.
    Gateway(ReloadArgs),
    /// Run only an ingestor, with the embedded store if it is configured.
    Ingestor,
    /// Run only the console: pages in the browser, for a gateway and a store that run elsewhere.
    Console,
    /// Show how to connect dashboards and SDKs to the embedded store, or run only the store.
    Store(StoreArgs),
    /// Create, list, rotate and revoke virtual keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Set, list and delete teams.
    #[command(subcommand)]
    Teams(RuleCommand<TeamArgs>),
    /// Set, list and delete limits on request rate, token rate and concurrency.
    #[command(subcommand)]
    Limits(RuleCommand<LimitArgs>),
    /// Set, list and delete budgets.
    #[command(subcommand)]
    Budgets(RuleCommand<BudgetArgs>),
    /// Set, list and delete rules on which models and networks a key may use.
    #[command(subcommand)]
    Access(RuleCommand<AccessArgs>),
    /// Set, list and delete rules on which prompts and answers are captured.
    #[command(subcommand)]
    Payloads(RuleCommand<PayloadArgs>),
    /// Create, list and revoke tokens for the admin API.
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Look after the control log, in which keys and rules are.
    #[command(subcommand)]
    Control(ControlCommand),
    /// Apply the teams, limits, budgets, access rules and payload rules of a file.
    Apply(ApplyArgs),
    /// Explain prices, import a newer price book, or price stored requests again.
    #[command(subcommand)]
    Prices(PricesCommand),
    /// Query the store in SQL.
    Sql(SqlArgs),
    /// Watch requests as they are stored, until Ctrl-C.
    Tail(Box<TailArgs>),
    /// List calls, and prove that no stored event is missing, duplicated or changed.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Maintain the rollups by minute, hour and day.
    #[command(subcommand)]
    Rollups(RollupsCommand),
    /// Show what a shorter retention would delete, or accept that it does.
    Retention(RetentionArgs),
    /// Inspect the routing table, explain a decision, or override it.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Copy this installation into a directory, while it runs or not.
    Backup(BackupArgs),
    /// Restore a backup into an empty data directory.
    Restore {
        /// Directory of the backup.
        dir: PathBuf,
    },
    /// Check the configuration, or print an example or its JSON Schema.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List every host and port that this deployment connects to, for firewall rules.
    Egress(Output),
    /// Check this machine, the configuration and the running services.
    Doctor(Output),
    /// Run a mock provider with fault injection (OpenAI, Anthropic and Gemini wire formats).
    MockProvider(MockProviderArgs),
    /// Benchmark a gateway under constant load.
    Bench(BenchArgs),
    /// Print a shell completion script.
    Completions { shell: clap_complete::Shell },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ControlCommand {
    /// Write into the Kafka topic what it lost and the copy in this data directory has. Makes the topic if
    /// it is gone.
    Repair,
}

/// What may be put in force while a gateway runs.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Put a changed configuration in force though it has no alias. Without this, an empty or
    /// half-written file leaves the old one in force.
    #[arg(long)]
    pub(crate) allow_empty: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// Put the configured retention in force, and so delete what is listed.
    #[arg(long)]
    pub(crate) accept_deletion: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Directory to make; it may be there if it is empty.
    pub(crate) dir: PathBuf,
    /// With Kafka or your own ClickHouse: copy the data directory of this machine alone.
    #[arg(long)]
    pub(crate) local_only: bool,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key. It is shown only once.
    Create(Box<KeyArgs>),
    /// List keys. Only their hashes are stored, so the keys themselves cannot be shown.
    List(Output),
    /// Show one key: owner, permissions, and when and from where it was last used.
    Show(KeyIdArgs),
    /// Replace a key with a new one. The old key works until its grace period ends.
    Rotate {
        /// Id of the key, as `weir keys list` shows it.
        id: String,
        /// Grace period of the old key: `24h`, `7d`, `30m`, or `0` for none.
        #[arg(long, default_value = "24h", value_parser = duration_ms)]
        grace: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key immediately.
    Revoke(KeyIdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyIdArgs {
    /// Id of the key, as `weir keys list` shows it.
    pub(crate) id: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct KeyArgs {
    /// Team that is charged.
    #[arg(long)]
    pub(crate) team: String,
    /// Organisation that the team belongs to.
    #[arg(long)]
    pub(crate) organisation: Option<String>,
    /// Project or service of the team.
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// User of the key.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Environment: prod, staging, dev …
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    pub(crate) environment: Option<String>,
    /// Tier: free, paid, enterprise, internal.
    #[arg(long)]
    pub(crate) tier: Option<String>,
    /// Aliases that the key may use; default: all. A trailing `*` matches any suffix.
    #[arg(long, value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// Aliases that the key may not use.
    #[arg(long, value_delimiter = ',')]
    pub(crate) models_denied: Vec<String>,
    /// Networks that the key may be used from; default: all.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) networks: Vec<Network>,
    /// Batch key: may use at most 80 % of any limit; the rest is reserved for interactive traffic.
    #[arg(long)]
    pub(crate) batch: bool,
    /// Requests per minute.
    #[arg(long)]
    pub(crate) rpm: Option<u64>,
    /// Budget of the key: `usd:50/day`, `tokens:1000000/month`.
    #[arg(long, value_parser = short_budget)]
    pub(crate) budget: Option<BudgetRecord>,
    /// Days after which the key expires.
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires_days: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `24h`, in milliseconds.
fn duration_ms(text: &str) -> Result<u64, &'static str> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "d" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1000,
        "" if number == "0" => 0,
        _ => return Err("expected a duration such as 24h, 7d, 30m, 10s or 0"),
    };
    let number: u64 = number.parse().map_err(|_| "the number is missing")?;
    number
        .checked_mul(unit_ms)
        .ok_or("the duration is too long")
}

/// An Ed25519 key in hex.
pub(crate) fn public_key(text: &str) -> Result<String, &'static str> {
    let is_key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key
        .then(|| text.to_owned())
        .ok_or("expected 64 hex digits, as `weir audit key --gateway` prints them")
}

/// `usd:50/day`: a hard budget with the default thresholds, without a name or a scope.
fn short_budget(text: &str) -> Result<BudgetRecord, String> {
    let form = || "expected a budget such as usd:50/day or tokens:1000000/month".to_owned();
    let (unit, rest) = text.split_once(':').ok_or_else(form)?;
    let (amount, window) = rest.split_once('/').ok_or_else(form)?;
    let (usd, tokens) = match unit {
        "usd" => (Some(amount.parse()?), None),
        "tokens" => (None, Some(amount.parse().map_err(|_| form())?)),
        _ => return Err(form()),
    };
    let budget = BudgetRecord {
        id: String::new(),
        scope: Scope::default(),
        per: Vec::new(),
        usd,
        tokens,
        window: window.to_owned(),
        zone: None,
        soft: false,
        thresholds_percent: vec![50, 80, 100],
        unpriced: UnpricedCalls::Refuse,
        unbounded: UnboundedCalls::Refuse,
        overrides: Vec::new(),
    };
    budget.spec()?;
    Ok(budget)
}

/// The commands of one kind of rule, whose arguments serialize as its record.
#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand<A: Args> {
    /// Create or replace a rule.
    Set {
        #[command(flatten)]
        rule: A,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List all rules.
    List(Output),
    /// Delete a rule.
    Delete(IdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    pub(crate) id: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The scope of a rule: keys that match every option given.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ScopeArgs {
    #[arg(long)]
    organisation: Option<String>,
    #[arg(long)]
    team: Option<String>,
    #[arg(long)]
    project: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// Key id.
    #[arg(long)]
    key: Option<String>,
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    environment: Option<String>,
    #[arg(long)]
    tier: Option<String>,
}

/// The scope of a rule: requests that match every option given.
#[derive(Debug, Args, Serialize)]
pub(crate) struct RequestScopeArgs {
    #[command(flatten)]
    #[serde(flatten)]
    key: ScopeArgs,
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    customer: Option<String>,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct TeamArgs {
    /// Name of the team.
    id: String,
    #[arg(long)]
    organisation: Option<String>,
    #[arg(long)]
    tier: Option<String>,
    /// Contact that refusals name.
    #[arg(long)]
    contact: Option<String>,
    /// Provider key of the team, as PROVIDER=NAME, where NAME is its name in the provider's
    /// `team_keys`. Never the key itself.
    #[arg(long = "provider-key", value_name = "PROVIDER=NAME")]
    #[serde(serialize_with = "provider_keys")]
    provider_keys: Vec<String>,
}

/// Splits each text at its `=`. An error does not repeat the text, which may be a key: clap would.
fn provider_keys<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let pairs = texts.iter().map(|text| text.split_once('='));
    let pairs = pairs.collect::<Option<Vec<_>>>().ok_or_else(|| {
        ser::Error::custom(
            "--provider-key: expected PROVIDER=NAME, where NAME is the name of the key in team_keys",
        )
    })?;
    serializer.collect_map(pairs)
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct LimitArgs {
    /// Name of the limit, shown in refusals.
    id: String,
    #[command(flatten)]
    scope: RequestScopeArgs,
    /// Count separately per value: with `user`, each user has a limit of their own.
    #[arg(long, value_delimiter = ',')]
    per: Vec<Dimension>,
    /// Requests per minute.
    #[arg(long)]
    #[serde(rename = "requests_per_minute")]
    rpm: Option<u64>,
    /// Tokens per minute.
    #[arg(long)]
    #[serde(rename = "tokens_per_minute")]
    tpm: Option<u64>,
    /// Concurrent requests.
    #[arg(long)]
    concurrency: Option<u64>,
    /// Limits that this one replaces where it applies.
    #[arg(long, value_delimiter = ',')]
    overrides: Vec<String>,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct BudgetArgs {
    /// Name of the budget, shown in refusals.
    id: String,
    #[command(flatten)]
    scope: RequestScopeArgs,
    /// Count separately per value: with `customer`, each customer has a budget of their own.
    #[arg(long, value_delimiter = ',')]
    per: Vec<Dimension>,
    /// US dollars, such as 12.50.
    #[arg(long, conflicts_with = "tokens", required_unless_present = "tokens")]
    usd: Option<Usd>,
    /// Input and output tokens.
    #[arg(long)]
    tokens: Option<u64>,
    /// hour, day, week, month, total, or a rolling window such as 12h or 30d.
    #[arg(long, default_value = "month")]
    window: String,
    /// Time zone in which days, weeks and months start; default: UTC.
    #[arg(long)]
    zone: Option<String>,
    /// Soft budget: refuse nothing, only notify at the thresholds.
    #[arg(long)]
    soft: bool,
    /// Percentages of the budget at which the webhook is notified.
    #[arg(long, value_delimiter = ',', default_value = "50,80,100")]
    #[serde(rename = "thresholds_percent")]
    thresholds: Vec<u8>,
    /// With --usd: allow calls without a known price, which are refused otherwise.
    #[arg(long = "allow-unpriced", requires = "usd", action = ArgAction::SetTrue)]
    #[arg(value_parser = BoolValueParser::new().map(unpriced))]
    unpriced: UnpricedCalls,
    /// Allow calls of which nothing says how much they can be billed at most, which are refused
    /// otherwise. They may overspend the budget.
    #[arg(long = "allow-unbounded", action = ArgAction::SetTrue)]
    #[arg(value_parser = BoolValueParser::new().map(unbounded))]
    unbounded: UnboundedCalls,
    /// Budgets that this one replaces where it applies.
    #[arg(long, value_delimiter = ',')]
    overrides: Vec<String>,
}

const fn unbounded(allow: bool) -> UnboundedCalls {
    if allow {
        UnboundedCalls::Allow
    } else {
        UnboundedCalls::Refuse
    }
}

const fn unpriced(allow: bool) -> UnpricedCalls {
    if allow {
        UnpricedCalls::Allow
    } else {
        UnpricedCalls::Refuse
    }
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct AccessArgs {
    /// Name of the rule, shown in refusals.
    id: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Aliases that may be used; default: all. A trailing `*` matches any suffix.
    #[arg(long, value_delimiter = ',')]
    #[serde(rename = "models_allowed")]
    models: Vec<String>,
    /// Aliases that may not be used.
    #[arg(long, value_delimiter = ',')]
    models_denied: Vec<String>,
    /// Client networks that may call; default: all.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    networks: Vec<Network>,
    /// Contact that refusals name.
    #[arg(long)]
    contact: Option<String>,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct PayloadArgs {
    /// Name of the rule. If several rules apply to a key, the one with the narrowest scope wins.
    id: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// How much is captured.
    #[arg(long)]
    capture: CaptureMode,
    /// With sampled: share of the requests to capture, such as 0.01.
    #[arg(long, required_if_eq("capture", "sampled"))]
    share: Option<SampleShare>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Create a token. It is shown only once.
    Create(TokenArgs),
    /// List tokens.
    List(Output),
    /// Revoke a token immediately.
    Revoke(IdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Name of the holder.
    pub(crate) id: String,
    #[arg(long, value_enum)]
    pub(crate) role: AdminRole,
    /// With the role team-owner: the team.
    #[arg(long, required_if_eq("role", "team-owner"))]
    pub(crate) team: Option<String>,
    /// Days after which the token expires.
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires_days: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// TOML file with `[[team]]`, `[[limit]]`, `[[budget]]`, `[[access]]` and `[[payload]]` sections.
    #[arg(short, long)]
    pub(crate) file: PathBuf,
    /// Make the changes. Without it they are only shown.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Also delete what is not in the file.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutesCommand {
    /// Print the routing table in force, its origin, and the state of each deployment.
    Show(Output),
    /// Explain why a request was sent to its deployment.
    Explain {
        /// Id of the request, from the response header x-request-id.
        request_id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keep the table in force, and ignore measurements.
    Freeze,
    /// Switch to an earlier table, and ignore measurements.
    Pin {
        /// Version of the table, as `weir routes show` lists it.
        version: u64,
    },
    /// Switch back to the previous table, and ignore measurements.
    Rollback,
    /// Follow measurements again.
    Resume,
    /// Print the table that current measurements would produce, without publishing it.
    DryRun(Output),
}

/// Without a command, runs the store. `weir up` and `weir ingestor` start it themselves.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Exit when standard input ends.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    #[command(subcommand)]
    pub(crate) command: Option<StoreCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Print the address, the user and the password file of the embedded store.
    User(StoreUserArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StoreUserArgs {
    /// `reader` for dashboards and SDKs, `operator` for `weir sql`, or `weir`, which may also write
    /// and change tables.
    #[arg(default_value = "reader", value_parser = store_user)]
    pub(crate) user: StoreUser,
    /// Print the password itself.
    #[arg(long)]
    pub(crate) show_password: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn store_user(name: &str) -> Result<StoreUser, String> {
    let known = StoreUser::ALL.into_iter().find(|user| user.name() == name);
    known.ok_or_else(|| "the users are reader, operator and weir".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The statement, or `-` to read it from stdin.
    // One may begin with a comment, as those that the console shows do.
    #[arg(allow_hyphen_values = true)]
    pub(crate) statement: String,
    /// A ClickHouse output format; default: a table on a terminal, TSV otherwise. In CSV, text that a
    /// spreadsheet would take for a formula gets an apostrophe in front.
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Short for `--format JSONEachRow`.
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Allow the statement to change rows and tables. `weir audit verify` finds what was changed.
    #[arg(long)]
    pub(crate) write: bool,
}

/// The requests to watch. Each filter may be given several times: any of its values will do.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[arg(long)]
    pub(crate) organisation: Vec<String>,
    #[arg(long)]
    pub(crate) team: Vec<String>,
    #[arg(long)]
    pub(crate) project: Vec<String>,
    #[arg(long)]
    pub(crate) user: Vec<String>,
    /// Id of a virtual key.
    #[arg(long, value_name = "ID")]
    pub(crate) key: Vec<String>,
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    pub(crate) environment: Vec<String>,
    #[arg(long)]
    pub(crate) tier: Vec<String>,
    #[arg(long)]
    pub(crate) feature: Vec<String>,
    #[arg(long)]
    pub(crate) customer: Vec<String>,
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    #[arg(long)]
    pub(crate) model: Vec<String>,
    #[arg(long)]
    pub(crate) provider: Vec<String>,
    /// Such as `provider/model`.
    #[arg(long)]
    pub(crate) deployment: Vec<String>,
    /// `ok`, `error` or an HTTP status.
    #[arg(long)]
    pub(crate) status: Vec<String>,
    #[arg(long)]
    pub(crate) error_kind: Vec<String>,
    /// Requests of before to begin with, at most 100.
    #[arg(long, value_name = "REQUESTS", default_value_t = 10)]
    pub(crate) newest: usize,
    /// Print JSON, one request per line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The calls to list.
#[derive(Debug, Args)]
pub(crate) struct CallsArgs {
    /// Calls of this user.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Calls of this team.
    #[arg(long)]
    pub(crate) team: Option<String>,
    /// Calls with this virtual key.
    #[arg(long, value_name = "ID")]
    pub(crate) key: Option<String>,
    /// Calls of this alias or model.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// How far back, in days: `90d`; default: the retention period.
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// List at most this many calls, newest first; default: all, or a hundred on a terminal.
    #[arg(long, value_name = "CALLS")]
    pub(crate) limit: Option<u64>,
    /// Print these columns, in this order; default: all, or on a terminal those that fit its width.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = CALL_COLUMNS.map(|column| column.name))]
    pub(crate) columns: Vec<String>,
    /// Print all columns on a terminal, too, in full.
    #[arg(long, conflicts_with = "columns")]
    pub(crate) wide: bool,
    /// Print JSON, one call per line.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV with a header line; text that a spreadsheet would take for a formula gets an apostrophe
    /// in front.
    #[arg(long)]
    pub(crate) csv: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PricesCommand {
    /// Explain which row of the price book applies to a model, and why.
    Show(ShowPriceArgs),
    /// Update a price book from the Python package `genai-prices`.
    ///
    /// Needs Python 3 with venv and pip. New rows are known from today on; a price that changed
    /// without a date takes effect today. Rows from other sources stay.
    Import(ImportPricesArgs),
    /// Price stored calls again, with the current price book.
    ///
    /// Stored costs stay. Each attempt whose cost changes gets a correction, and the view
    /// weir.rerated_requests shows both costs.
    Rerate(RerateArgs),
    /// Price calls that are given as JSON, one after the other.
    ///
    /// Such as {"provider": "openai", "model": "gpt-4o", "usage": {"input_tokens": 1000}}, with at,
    /// response_model, service_tier, inference_geo and other_models if wanted. Counts have the names of
    /// the columns of weir.attempts, and parts are in their whole: input_tokens has the cached ones too.
    /// Answers one JSON object per line: cost_usd, price_version, unpriced_reason.
    Estimate(EstimateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EstimateArgs {
    /// File with the calls; default: standard input.
    pub(crate) calls: Option<PathBuf>,
    /// Use the prices known on this day; default: today.
    #[arg(long, value_name = "DAY")]
    pub(crate) known_on: Option<Date>,
}

#[derive(Debug, Args)]
pub(crate) struct RerateArgs {
    /// Start, such as 2026-09-01 or 2026-09-01T08:00:00Z.
    #[arg(long)]
    pub(crate) since: String,
    /// End, exclusive; default: now.
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Model, as its provider names it; default: all.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Use the prices known on this day; default: today.
    #[arg(long, value_name = "DAY")]
    pub(crate) known_on: Option<Date>,
    /// Reason to record in the corrections.
    #[arg(long, default_value = "rerated")]
    pub(crate) reason: String,
    /// Only show what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowPriceArgs {
    /// Model, as its provider names it.
    pub(crate) model: String,
    /// Provider in the price book, or one of the configuration; default: all of the price book.
    #[arg(long)]
    pub(crate) provider: Option<String>,
    /// Time of the call, such as 2026-09-01 or 2026-09-01T08:00:00Z; default: now.
    #[arg(long)]
    pub(crate) at: Option<String>,
    /// Use the prices known on this day; default: today.
    #[arg(long, value_name = "DAY")]
    pub(crate) known_on: Option<Date>,
    /// Input tokens of the call, which some prices depend on.
    #[arg(long, default_value_t = 0)]
    pub(crate) input_tokens: u64,
    /// Service tier of the call, as the provider names it: flex, priority, fast, batch …; default:
    /// the standard tier. A tier without a row is unpriced.
    #[arg(long, visible_alias = "service-tier", default_value = "")]
    pub(crate) tier: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportPricesArgs {
    /// Price book to update; created from the built-in one if it does not exist.
    #[arg(default_value = "prices.csv")]
    pub(crate) book: PathBuf,
    /// Version of the package; default: the newest.
    #[arg(long, value_name = "VERSION")]
    pub(crate) package_version: Option<String>,
    /// Python interpreter that has the package; default: a new virtual environment.
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
    /// Day from which the new rows are known; default: today.
    #[arg(long, value_name = "DAY")]
    pub(crate) known_from: Option<Date>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List calls, newest first: caller, model, time, address, cost.
    Calls(CallsArgs),
    /// Verify that a period has no missing, duplicated or changed rows, and that rollups match.
    ///
    /// Exits with 0 if the period is proven and 1 if it is not. The first finding names the row.
    Verify {
        /// How far back, in days: `90d`; default: the retention period.
        #[arg(long)]
        since: Option<String>,
        /// Another copy of checkpoints.jsonl to compare the store with. The file in the data
        /// directory is always compared.
        #[arg(long, value_name = "FILE")]
        copy: Vec<PathBuf>,
        /// Public key of an accepted signer; default: any signer.
        #[arg(long, value_name = "KEY")]
        signer: Vec<String>,
        /// Public key of a gateway whose seals are trusted, beside those of the configuration and of the
        /// gateway here; default: any key.
        #[arg(long, value_name = "KEY", value_parser = public_key)]
        gateway_key: Vec<String>,
        /// Place outside whose notes must agree: `file:///DIR`, `s3://BUCKET/PREFIX` or
        /// `kafka://HOST:PORT/TOPIC`. Those of the configuration are always compared.
        #[arg(long, value_name = "URL")]
        anchor: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Seal the events stored so far, and anchor that. The ingestor seals every minute.
    Checkpoint,
    /// Print the public key that checkpoints are signed with, or the one of the gateway here.
    Key {
        /// Print it as tools for signed notes take it (C2SP's verifier key), to check anchors with.
        #[arg(long)]
        note: bool,
        /// Print the key that the gateway of this data directory signs its seals with, for
        /// `[audit] gateway_keys`.
        #[arg(long, conflicts_with = "note")]
        gateway: bool,
    },
    /// Check an exported checkpoint file without a store.
    CheckExport {
        /// The file; default: the one in the data directory.
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RollupsCommand {
    /// Rebuild the rollups from the stored requests.
    Rebuild,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the file and report every problem.
    Check(Output),
    /// Print a commented example configuration.
    Example,
    /// Print the JSON Schema of the configuration file.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct MockProviderArgs {
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub(crate) listen: SocketAddr,
    /// Provider name in answers and in the ledger.
    #[arg(long, default_value = "mock")]
    pub(crate) name: String,
    /// Time to first token: `0`, `25ms`, `10ms..50ms` or `lognormal:200ms,0.6`.
    #[arg(long, default_value = "0")]
    pub(crate) ttft: String,
    /// Time between tokens, in the same format.
    #[arg(long, default_value = "0")]
    pub(crate) inter_token: String,
    /// Cap on output tokens; an answer has `max_tokens` tokens up to this cap.
    #[arg(long, default_value_t = 8192)]
    pub(crate) output_tokens_max: u32,
    /// Fail every Nth call, `--fault server_error:10`, or all of them, `--fault timeout`. May be repeated. Kinds:
    /// rate_limit, server_error, unavailable, timeout, slow_headers, cut, malformed_chunk, stream_error, stall,
    /// context_length
    #[arg(long = "fault", value_name = "KIND[:EVERY]")]
    pub(crate) faults: Vec<String>,
    /// Refuse what the real API would refuse, with its status and error. The message names the rule and the page that
    /// documents it; `GET /__mock/ledger` counts refusals by rule.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Vendor whose rules hold, by its name in `dialect`: `groq`, `openrouter`. Without it, those of the company
    /// that defined the API that is called: OpenAI, Anthropic or Google.
    #[arg(
        long,
        requires = "strict",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) vendor: String,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Base URL of the gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// Virtual key to call with.
    #[arg(long, env = "WEIR_KEY")]
    pub(crate) key: String,
    /// Model or alias to call.
    #[arg(long)]
    pub(crate) model: String,
    /// Requests per second, sent on schedule even if answers are late.
    #[arg(long, default_value_t = 100.0)]
    pub(crate) rate: f64,
    /// Seconds to measure, after a warm-up of a tenth of that.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Size of the prompts in tokens: `64`, `10..200` or `lognormal:64,0.8`.
    #[arg(long, default_value = "64")]
    pub(crate) input_tokens: String,
    /// Size of the answers in tokens, in the same format.
    #[arg(long, default_value = "16")]
    pub(crate) output_tokens: String,
    /// Keep-alive connections, which also limits the requests in flight.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Request streaming answers.
    #[arg(long)]
    pub(crate) stream: bool,
    /// Id of a process whose CPU time to measure.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
