//! The command line, as it is typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Create, list and revoke virtual keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Ask the store a question in SQL.
    Sql(SqlArgs),
    /// Prove that nothing stored is missing, doubled or changed.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look after the sums by minute, hour and day.
    #[command(subcommand)]
    Rollups(RollupsCommand),
    /// Check the configuration, or print an example or its schema.
    #[command(subcommand)]
    Config(ConfigCommand),
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
    Create(KeyArgs),
    /// List keys. The keys themselves are not kept, so they are not shown.
    List {
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
    /// Aliases that the key may use; all unless set.
    #[arg(long, value_delimiter = ',')]
    pub(crate) models: Vec<String>,
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
            expires_days: None,
            json: false,
        }
    }
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

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
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
