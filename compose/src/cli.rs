//! The command line, as it is typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;
use weir_governance::control::network::Network;
use weir_governance::control::record::{
    AccessRecord, BudgetRecord, CaptureMode, Dimension, Kind, LimitRecord, PayloadRecord, Record,
    Role, Scope, Share, TeamRecord, Unpriced, Usd,
};

/// Where data lives unless somebody says otherwise.
pub(crate) const DATA_DIR: &str = "weir-data";

/// Self-hosted LLM gateway whose bill, audit trail and routing come from one event log.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Configuration file; `weir config example` prints one.
    #[arg(long, global = true, value_name = "FILE", env = "WEIR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where journal, keys and the embedded store live.
    #[arg(long, global = true, value_name = "DIR", env = "WEIR_DATA_DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// How logs are written to stderr.
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
    /// Run everything on this machine: gateway, ingestor, event log and store.
    Up {
        /// Add mock providers, keys for a few teams and a trickle of traffic.
        #[arg(long)]
        demo: bool,
    },
    /// Run a gateway alone.
    Gateway,
    /// Run an ingestor alone.
    Ingestor,
    /// Run the embedded store alone; `weir up` and `weir ingestor` do it for you.
    #[command(hide = true)]
    Store {
        /// End when standard input ends.
        #[arg(long)]
        supervised: bool,
    },
    /// Create, list, rotate and revoke virtual keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Set, list and delete teams.
    #[command(subcommand)]
    Teams(RuleCommand<TeamArgs>),
    /// Set, list and delete limits on rates and on requests at once.
    #[command(subcommand)]
    Limits(RuleCommand<LimitArgs>),
    /// Set, list and delete budgets.
    #[command(subcommand)]
    Budgets(RuleCommand<BudgetArgs>),
    /// Set, list and delete rules on models and networks.
    #[command(subcommand)]
    Access(RuleCommand<AccessArgs>),
    /// Set, list and delete rules on what is kept of prompts and answers.
    #[command(subcommand)]
    Payloads(RuleCommand<PayloadArgs>),
    /// Create, list and revoke tokens for the admin API.
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Bring teams, limits, budgets, access rules and payload rules to what a file says.
    Apply(ApplyArgs),
    /// Explain what models cost, or take in a newer price book.
    #[command(subcommand)]
    Prices(PricesCommand),
    /// Ask the store a question in SQL.
    Sql(SqlArgs),
    /// Prove that nothing stored is missing, doubled or changed.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look after the sums by minute, hour and day.
    #[command(subcommand)]
    Rollups(RollupsCommand),
    /// Show what routing goes by, explain a decision, and decide for it.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Check the configuration, or print an example or its schema.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List every host and port that this deployment calls, for the firewall.
    Egress {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check this machine, the configuration and every part that runs.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a provider that is none: OpenAI's, Anthropic's and Gemini's wire formats, with faults on demand.
    MockProvider(MockProviderArgs),
    /// Measure a gateway under constant load.
    Bench(BenchArgs),
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key. It is shown once.
    Create(Box<KeyArgs>),
    /// List keys. The keys themselves are not kept, so they are not shown.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one key: whose it is, what it may do, when it was last used and from where.
    Show {
        /// Id of the key, as `weir keys list` shows it.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replace a key by a new one. The old one goes on working for a time of grace.
    Rotate {
        /// Id of the key, as `weir keys list` shows it.
        id: String,
        /// How long the old one still works: `24h`, `7d`, `30m`, `0` for not at all.
        #[arg(long, default_value = "24h")]
        grace: Grace,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key at once.
    Revoke {
        /// Id of the key, as `weir keys list` shows it.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Team that pays.
    #[arg(long)]
    pub(crate) team: String,
    /// Organisation that the team belongs to.
    #[arg(long)]
    pub(crate) organisation: Option<String>,
    /// Project or service of the team.
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// User that the key is for.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Environment: prod, staging, dev …
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    pub(crate) environment: Option<String>,
    /// Tier: free, paid, enterprise, internal.
    #[arg(long)]
    pub(crate) tier: Option<String>,
    /// Aliases that the key may use; all unless set. A `*` at the end stands for anything.
    #[arg(long, value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// Aliases that the key may not use.
    #[arg(long, value_delimiter = ',')]
    pub(crate) models_denied: Vec<String>,
    /// Networks that the key may be used from; all unless set.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) networks: Vec<Network>,
    /// Nobody waits for the answers: the last fifth of every limit is kept from this key.
    #[arg(long)]
    pub(crate) batch: bool,
    /// Requests a minute.
    #[arg(long)]
    pub(crate) rpm: Option<u64>,
    /// Budget of the key: `usd:50/day`, `tokens:1000000/month`.
    #[arg(long)]
    pub(crate) budget: Option<ShortBudget>,
    /// Days after which the key expires.
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires_days: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl KeyArgs {
    /// A key of a team, and nothing else said.
    pub(crate) fn for_team(team: &str) -> Self {
        Self {
            team: team.to_owned(),
            organisation: None,
            project: None,
            user: None,
            environment: None,
            tier: None,
            models: Vec::new(),
            models_denied: Vec::new(),
            networks: Vec::new(),
            batch: false,
            rpm: None,
            budget: None,
            expires_days: None,
            json: false,
        }
    }
}

/// A time of grace, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grace(pub(crate) u64);

impl std::str::FromStr for Grace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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
            _ => return Err("write it as 24h, 7d, 30m, 10s or 0".into()),
        };
        let number: u64 = number.parse().map_err(|_| "the number is missing")?;
        let ms = number.checked_mul(unit_ms).ok_or("it is too long")?;
        Ok(Self(ms))
    }
}

/// A budget in one word: `usd:50/day`.
#[derive(Clone, Debug)]
pub(crate) struct ShortBudget {
    usd: Option<Usd>,
    tokens: Option<u64>,
    window: String,
}

impl std::str::FromStr for ShortBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write it as usd:50/day or tokens:1000000/month".to_owned();
        let (unit, rest) = text.split_once(':').ok_or_else(form)?;
        let (amount, window) = rest.split_once('/').ok_or_else(form)?;
        let (usd, tokens) = match unit {
            "usd" => (Some(amount.parse()?), None),
            "tokens" => (None, Some(amount.parse().map_err(|_| form())?)),
            _ => return Err(form()),
        };
        let budget = Self {
            usd,
            tokens,
            window: window.to_owned(),
        };
        budget.record().spec()?;
        Ok(budget)
    }
}

impl ShortBudget {
    /// A hard budget with the usual thresholds, without a name and for everybody.
    pub(crate) fn record(&self) -> BudgetRecord {
        BudgetRecord {
            id: String::new(),
            scope: Scope::default(),
            per: Vec::new(),
            usd: self.usd,
            tokens: self.tokens,
            window: self.window.clone(),
            zone: None,
            soft: false,
            thresholds_percent: vec![50, 80, 100],
            unpriced: Unpriced::Refuse,
            overrides: Vec::new(),
        }
    }
}

/// What can be done with one kind of rule.
#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand<A: Args> {
    /// Create it, or replace what it says.
    Set {
        #[command(flatten)]
        rule: A,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List all of them.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete one.
    Delete {
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments that say a whole rule.
pub(crate) trait SetRule: Args {
    const KIND: Kind;

    fn record(&self) -> Record;
}

/// What a rule holds for: everything that agrees with all that is given.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScopeArgs {
    #[arg(long)]
    organisation: Option<String>,
    #[arg(long)]
    team: Option<String>,
    #[arg(long)]
    project: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// Id of a key.
    #[arg(long)]
    key: Option<String>,
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    environment: Option<String>,
    #[arg(long)]
    tier: Option<String>,
}

impl ScopeArgs {
    fn scope(&self, model: Option<&String>, customer: Option<&String>) -> Scope {
        Scope {
            organisation: self.organisation.clone(),
            team: self.team.clone(),
            project: self.project.clone(),
            user: self.user.clone(),
            key: self.key.clone(),
            environment: self.environment.clone(),
            tier: self.tier.clone(),
            model: model.cloned(),
            customer: customer.cloned(),
        }
    }
}

/// What is counted apart.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Per {
    Organisation,
    Team,
    Project,
    User,
    Key,
    Environment,
    Tier,
    Model,
    Customer,
}

impl From<Per> for Dimension {
    fn from(per: Per) -> Self {
        match per {
            Per::Organisation => Self::Organisation,
            Per::Team => Self::Team,
            Per::Project => Self::Project,
            Per::User => Self::User,
            Per::Key => Self::Key,
            Per::Environment => Self::Environment,
            Per::Tier => Self::Tier,
            Per::Model => Self::Model,
            Per::Customer => Self::Customer,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TeamArgs {
    /// Name of the team.
    id: String,
    #[arg(long)]
    organisation: Option<String>,
    #[arg(long)]
    tier: Option<String>,
    /// Whom to ask when something is refused.
    #[arg(long)]
    contact: Option<String>,
    /// Key that the team brings, as PROVIDER=NAME: its name in `team_keys` of the provider, never
    /// the key itself.
    #[arg(long = "provider-key", value_name = "PROVIDER=NAME", value_parser = provider_key)]
    provider_keys: Vec<(String, String)>,
}

/// Never repeats what it was given: it may be a key.
fn provider_key(text: &str) -> Result<(String, String), String> {
    let (provider, name) = text
        .split_once('=')
        .ok_or("write PROVIDER=NAME, with the name that the key has in team_keys")?;
    Ok((provider.to_owned(), name.to_owned()))
}

impl SetRule for TeamArgs {
    const KIND: Kind = Kind::Team;

    fn record(&self) -> Record {
        Record::Team(TeamRecord {
            id: self.id.clone(),
            organisation: self.organisation.clone(),
            tier: self.tier.clone(),
            contact: self.contact.clone(),
            provider_keys: self.provider_keys.iter().cloned().collect(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Name of the limit; refusals carry it.
    id: String,
    #[command(flatten)]
    scope: ScopeArgs,
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    customer: Option<String>,
    /// What is counted apart: with `user` every user has the limit for themselves.
    #[arg(long, value_delimiter = ',')]
    per: Vec<Per>,
    /// Requests a minute.
    #[arg(long)]
    rpm: Option<u64>,
    /// Tokens a minute.
    #[arg(long)]
    tpm: Option<u64>,
    /// Requests at once.
    #[arg(long)]
    concurrency: Option<u64>,
    /// Limits that do not hold where this one does.
    #[arg(long, value_delimiter = ',')]
    overrides: Vec<String>,
}

impl SetRule for LimitArgs {
    const KIND: Kind = Kind::Limit;

    fn record(&self) -> Record {
        Record::Limit(LimitRecord {
            id: self.id.clone(),
            scope: self
                .scope
                .scope(self.model.as_ref(), self.customer.as_ref()),
            per: self.per.iter().map(|per| (*per).into()).collect(),
            requests_per_minute: self.rpm,
            tokens_per_minute: self.tpm,
            concurrency: self.concurrency,
            overrides: self.overrides.clone(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct BudgetArgs {
    /// Name of the budget; refusals carry it.
    id: String,
    #[command(flatten)]
    scope: ScopeArgs,
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    customer: Option<String>,
    /// What is counted apart: with `customer` every customer has the budget for themselves.
    #[arg(long, value_delimiter = ',')]
    per: Vec<Per>,
    /// Dollars, as 12.50.
    #[arg(long, conflicts_with = "tokens", required_unless_present = "tokens")]
    usd: Option<Usd>,
    /// Tokens in and out.
    #[arg(long)]
    tokens: Option<u64>,
    /// hour, day, week, month, total, or rolling as 12h or 30d.
    #[arg(long, default_value = "month")]
    window: String,
    /// Time zone in which days, weeks and months begin; UTC unless set.
    #[arg(long)]
    zone: Option<String>,
    /// Refuse nobody, and only say when thresholds are reached.
    #[arg(long)]
    soft: bool,
    /// Parts of the budget, in percent, at which somebody is told.
    #[arg(long, value_delimiter = ',', default_value = "50,80,100")]
    thresholds: Vec<u8>,
    /// With --usd: let calls through that nobody knows a price for; they are refused otherwise.
    #[arg(long, requires = "usd")]
    allow_unpriced: bool,
    /// Budgets that do not hold where this one does.
    #[arg(long, value_delimiter = ',')]
    overrides: Vec<String>,
}

impl SetRule for BudgetArgs {
    const KIND: Kind = Kind::Budget;

    fn record(&self) -> Record {
        Record::Budget(BudgetRecord {
            id: self.id.clone(),
            scope: self
                .scope
                .scope(self.model.as_ref(), self.customer.as_ref()),
            per: self.per.iter().map(|per| (*per).into()).collect(),
            usd: self.usd,
            tokens: self.tokens,
            window: self.window.clone(),
            zone: self.zone.clone(),
            soft: self.soft,
            thresholds_percent: self.thresholds.clone(),
            unpriced: if self.allow_unpriced {
                Unpriced::Allow
            } else {
                Unpriced::Refuse
            },
            overrides: self.overrides.clone(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    /// Name of the rule; refusals carry it.
    id: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Aliases that may be used; all unless set. A `*` at the end stands for anything.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Aliases that may not be used.
    #[arg(long, value_delimiter = ',')]
    models_denied: Vec<String>,
    /// Networks that may call; all unless set.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    networks: Vec<Network>,
    /// Whom to ask.
    #[arg(long)]
    contact: Option<String>,
}

impl SetRule for AccessArgs {
    const KIND: Kind = Kind::Access;

    fn record(&self) -> Record {
        Record::Access(AccessRecord {
            id: self.id.clone(),
            scope: self.scope.scope(None, None),
            models_allowed: self.models.clone(),
            models_denied: self.models_denied.clone(),
            networks: self.networks.clone(),
            contact: self.contact.clone(),
        })
    }
}

/// What is kept of prompts and answers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CaptureArg {
    /// Nothing.
    Off,
    /// Roles, sizes, names of models and tools, parameters. No text.
    Metadata,
    /// The redacted text of a share of the requests.
    Sampled,
    /// The redacted text of every request.
    Full,
}

impl From<CaptureArg> for CaptureMode {
    fn from(capture: CaptureArg) -> Self {
        match capture {
            CaptureArg::Off => Self::Off,
            CaptureArg::Metadata => Self::Metadata,
            CaptureArg::Sampled => Self::Sampled,
            CaptureArg::Full => Self::Full,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PayloadArgs {
    /// Name of the rule. Of the rules that hold for a key the one with the narrowest scope decides.
    id: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// What is kept.
    #[arg(long)]
    capture: CaptureArg,
    /// With sampled: share of the requests that are kept, such as 0.01.
    #[arg(long, required_if_eq("capture", "sampled"))]
    share: Option<Share>,
}

impl SetRule for PayloadArgs {
    const KIND: Kind = Kind::Payload;

    fn record(&self) -> Record {
        Record::Payload(PayloadRecord {
            id: self.id.clone(),
            scope: self.scope.scope(None, None),
            capture: self.capture.into(),
            share: self.share,
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Create a token. It is shown once.
    Create(TokenArgs),
    /// List tokens.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token at once.
    Revoke {
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleArg {
    /// Everything.
    Admin,
    /// Read everything about one team, and make, rotate and revoke its keys.
    TeamOwner,
    /// Read everything.
    Auditor,
    /// Read everything, and set budgets.
    Finance,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Admin => Self::Admin,
            RoleArg::TeamOwner => Self::TeamOwner,
            RoleArg::Auditor => Self::Auditor,
            RoleArg::Finance => Self::Finance,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Name of whoever holds it.
    pub(crate) id: String,
    #[arg(long, value_enum)]
    pub(crate) role: RoleArg,
    /// With the role team-owner: which team.
    #[arg(long, required_if_eq("role", "team-owner"))]
    pub(crate) team: Option<String>,
    /// Days after which it expires.
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires_days: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// TOML file with [[team]], [[limit]], [[budget]], [[access]] and [[payload]] sections.
    #[arg(short, long)]
    pub(crate) file: PathBuf,
    /// Make the changes; they are only shown otherwise.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Delete what is not in the file.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutesCommand {
    /// Print the routing table in force, how it came about, and the state of each deployment.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say why a request went where it went.
    Explain {
        /// Id of the request, as the response header x-request-id says.
        request_id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keep the table in force, whatever is measured.
    Freeze,
    /// Keep an earlier table, whatever is measured.
    Pin {
        /// Number of the table, as `weir routes show` lists it.
        version: u64,
    },
    /// Go back to the table before the one in force, and keep it.
    Rollback,
    /// Let measurements decide again.
    Resume,
    /// Print the table that measurements would make now. Publishes nothing.
    DryRun {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The statement; `-` reads it from stdin.
    pub(crate) statement: String,
    /// Any of ClickHouse's formats; a table on a terminal and TSV elsewhere unless set.
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Same as `--format JSONEachRow`.
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

/// Which calls to list.
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
    /// How far back, in days: `90d`. All that the retention keeps unless set.
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// At most so many calls, the newest ones.
    #[arg(long, value_name = "CALLS")]
    pub(crate) limit: Option<u64>,
    /// Print JSON, one call a line.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV with a line of names.
    #[arg(long)]
    pub(crate) csv: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PricesCommand {
    /// Explain which row of the price book applies to a model's calls, and why.
    Show(ShowPriceArgs),
    /// Bring a price book up to date with the Python package `genai-prices`.
    ///
    /// Needs Python 3 with venv and pip. What the package says becomes known today; a price that
    /// changed without a date takes effect today. Rows from elsewhere stay.
    Import(ImportPricesArgs),
    /// Price stored calls anew, with the book as it is now.
    ///
    /// What was said before stays: each try whose cost changes gets a correction, and the view
    /// weir.rerated_requests shows both figures.
    Rerate(RerateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RerateArgs {
    /// First day or instant, as 2026-09-01 or 2026-09-01T08:00:00Z.
    #[arg(long)]
    pub(crate) since: String,
    /// Day or instant before which; now unless set.
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Model, as its provider names it; all unless set.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Use what the book knew on that day; everything known unless set.
    #[arg(long, value_name = "DAY")]
    pub(crate) known_on: Option<Date>,
    /// Why, for the record.
    #[arg(long, default_value = "rerated")]
    pub(crate) reason: String,
    /// Only say what would change.
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
    /// Provider of the price book, or one of the configuration with a price of its own; all unless set.
    #[arg(long)]
    pub(crate) provider: Option<String>,
    /// Day or instant of the call, as 2026-09-01 or 2026-09-01T08:00:00Z; now unless set.
    #[arg(long)]
    pub(crate) at: Option<String>,
    /// Explain with what was known on that day; with everything known unless set.
    #[arg(long, value_name = "DAY")]
    pub(crate) known_on: Option<Date>,
    /// Input tokens of the call: some prices depend on them.
    #[arg(long, default_value_t = 0)]
    pub(crate) input_tokens: u64,
    /// Service tier that the provider served the call in, by its word: flex, priority, fast, batch …
    /// The standard one unless set; one without a row is unpriced.
    #[arg(long, visible_alias = "service-tier", default_value = "")]
    pub(crate) tier: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportPricesArgs {
    /// Book to bring up to date; made from the built-in one if it is not there.
    #[arg(default_value = "prices.csv")]
    pub(crate) book: PathBuf,
    /// Version of the package; the newest unless set.
    #[arg(long, value_name = "VERSION")]
    pub(crate) package_version: Option<String>,
    /// Python that has the package, in place of an environment made for it.
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
    /// Day from which on the new rows are known; today unless set.
    #[arg(long, value_name = "DAY")]
    pub(crate) known_from: Option<Date>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List calls, the newest first: who called which model, when, from where, at what cost.
    Calls(CallsArgs),
    /// Verify a period: no gap, no double, no changed row, rollups equal to the rows.
    ///
    /// Exits 0 when the period is proven and 1 when it is not; the first finding names the row.
    Verify {
        /// How far back, in days: `90d`. All that the retention keeps unless set.
        #[arg(long)]
        since: Option<String>,
        /// A copy of checkpoints.jsonl from elsewhere, which the store must agree with. The
        /// installation's own is always compared.
        #[arg(long, value_name = "FILE")]
        copy: Vec<PathBuf>,
        /// Public key of who may sign; anybody unless named.
        #[arg(long, value_name = "KEY")]
        signer: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Seal what is stored now; the ingestor does it every minute.
    Checkpoint,
    /// Print the public key that checkpoints are signed with.
    Key,
    /// Check exported checkpoints by themselves, without a store.
    CheckExport {
        /// The file; the installation's own unless set.
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RollupsCommand {
    /// Make them anew from the stored requests.
    Rebuild,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the file and say everything that is wrong with it.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a commented example.
    Example,
    /// Print the JSON Schema of the file.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct MockProviderArgs {
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub(crate) listen: SocketAddr,
    /// Name in its answers and its ledger.
    #[arg(long, default_value = "mock")]
    pub(crate) name: String,
    /// Time to first token: `0`, `25ms`, `10ms..50ms` or `lognormal:200ms,0.6`.
    #[arg(long, default_value = "0")]
    pub(crate) ttft: String,
    /// Time between tokens, written the same way.
    #[arg(long, default_value = "0")]
    pub(crate) inter_token: String,
    /// Longest answer; up to it an answer has as many tokens as `max_tokens` allows.
    #[arg(long, default_value_t = 8192)]
    pub(crate) output_tokens_max: u32,
    /// Let every Nth call fail: `--fault server_error:10`. May be given several times.
    #[arg(long = "fault", value_name = "KIND:EVERY")]
    pub(crate) faults: Vec<String>,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Address of the gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// Virtual key to call with.
    #[arg(long, env = "WEIR_KEY")]
    pub(crate) key: String,
    /// Model or alias to ask for.
    #[arg(long)]
    pub(crate) model: String,
    /// Requests per second, sent on time whatever the answers do.
    #[arg(long, default_value_t = 100.0)]
    pub(crate) rate: f64,
    /// Seconds to measure, after a warm-up of a tenth of it.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Size of the prompts in tokens: `64`, `10..200` or `lognormal:64,0.8`.
    #[arg(long, default_value = "64")]
    pub(crate) input_tokens: String,
    /// Size of the answers in tokens, written the same way.
    #[arg(long, default_value = "16")]
    pub(crate) output_tokens: String,
    /// Keep-alive connections, and so the most requests in flight.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Ask for streams.
    #[arg(long)]
    pub(crate) stream: bool,
    /// Process whose CPU time is measured meanwhile.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
