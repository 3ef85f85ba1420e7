//! Recorded traffic: when calls came, and how many tokens they had.
//!
//! Three public traces are known by name and read where they lie: in the folder named by `WEIR_TRACE_DIR`, or in `shared/data` beside
//! or above the working directory. Where they are absent, [`Trace::named`] draws a trace of the same shape from distributions that were
//! fitted to them ([`fitted`]), and [`Trace::source`] says so. Prompts were never published; only sizes are known.
//!
//! - Azure LLM inference trace 2023, conversation and code (Patel et al., Splitwise, ISCA 2024; CC-BY-4.0): CSV
//!   `TIMESTAMP,ContextTokens,GeneratedTokens`.
//! - Mooncake conversation trace (FAST'25; Apache-2.0): JSON lines with `timestamp` (ms), `input_length`, `output_length`.
//!
//! Any file in one of the two formats can be read with [`Trace::read`].

pub mod fitted;

use std::fmt;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::DateTime;
use serde::de::{IntoDeserializer as _, value};
use serde::{Deserialize, Serialize};

use fitted::Fitted;

/// One recorded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// Since the first call of the trace.
    pub at: Duration,
    pub input_tokens: u32,
    pub output_tokens: u32,
}

/// Calls in the order of their time.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Where it comes from, for a person to read.
    pub source: String,
    pub calls: Vec<TracedCall>,
}

/// The traces known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceName {
    AzureConv,
    AzureCode,
    Mooncake,
}

impl TraceName {
    pub const ALL: [Self; 3] = [Self::AzureConv, Self::AzureCode, Self::Mooncake];

    fn file(self) -> &'static str {
        match self {
            Self::AzureConv => "azure_llm_2023_conv.csv",
            Self::AzureCode => "azure_llm_2023_code.csv",
            Self::Mooncake => "mooncake_conversation.jsonl",
        }
    }

    /// The recorded file, if this machine has it.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        let named = std::env::var_os("WEIR_TRACE_DIR").map(PathBuf::from);
        let nearby = std::env::current_dir().unwrap_or_default();
        named
            .into_iter()
            .chain(nearby.ancestors().map(|folder| folder.join("shared/data")))
            .map(|folder| folder.join(self.file()))
            .find(|path| path.is_file())
    }
}

impl fmt::Display for TraceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

impl FromStr for TraceName {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        Self::deserialize(text.into_deserializer()).map_err(|_: value::Error| TraceError::Name {
            text: text.to_owned(),
        })
    }
}

/// Why a trace could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(
        "unknown trace {text:?}; known are azure-conv, azure-code, mooncake, or a file ending in .csv or .jsonl"
    )]
    Name { text: String },
    #[error("cannot read trace {path:?}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("trace {path:?}, line {line}: {problem}")]
    TraceLine {
        path: PathBuf,
        line: usize,
        problem: String,
    },
    #[error("trace {path:?} has no calls")]
    Empty { path: PathBuf },
    #[error("trace {path:?} ends neither in .csv nor in .jsonl, so its format is unknown")]
    Format { path: PathBuf },
}

impl Trace {
    /// The first `count` calls of a known trace: recorded where the file is found, drawn from the fit where it is not.
    pub fn named(name: TraceName, count: usize, seed: u64) -> Result<Self, TraceError> {
        let Some(path) = name.find() else {
            return Ok(Self::generated(name, count, seed));
        };
        let mut trace = Self::read(&path)?;
        trace.calls.truncate(count);
        Ok(trace)
    }

    /// `count` calls drawn from what was fitted to a known trace.
    #[must_use]
    pub fn generated(name: TraceName, count: usize, seed: u64) -> Self {
        Self {
            source: format!("generated with seed {seed} from distributions fitted to {name}"),
            calls: fitted::calls(name, seed).take(count).collect(),
        }
    }

    /// Reads a file in either format.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let path_buf = || path.to_owned();
        let parse = match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => csv_line,
            Some("jsonl") => json_line,
            _ => return Err(TraceError::Format { path: path_buf() }),
        };
        let text = std::fs::read_to_string(path).map_err(|source| TraceError::Read {
            path: path_buf(),
            source,
        })?;
        let mut calls = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let is_header = line == 1 && text.starts_with("TIMESTAMP");
            if is_header || text.trim().is_empty() {
                continue;
            }
            let call = parse(text).map_err(|problem| TraceError::TraceLine {
                path: path_buf(),
                line,
                problem,
            })?;
            calls.push(call);
        }
        calls.sort_by_key(|call| call.at);
        let Some(TracedCall { at: first, .. }) = calls.first().copied() else {
            return Err(TraceError::Empty { path: path_buf() });
        };
        for call in &mut calls {
            call.at -= first;
        }
        Ok(Self {
            source: format!("recorded in {}", path.display()),
            calls,
        })
    }
}

/// Its time is counted from the year 0.
fn csv_line(text: &str) -> Result<TracedCall, String> {
    let mut fields = text.split(',');
    let mut field = |name: &str| fields.next().ok_or_else(|| format!("no field {name}"));
    let at = timestamp(field("TIMESTAMP")?)?;
    let mut number = |name: &str| {
        let text = field(name)?;
        text.trim()
            .parse()
            .map_err(|error: ParseIntError| format!("{name} {text:?}: {error}"))
    };
    Ok(TracedCall {
        at,
        input_tokens: number("ContextTokens")?,
        output_tokens: number("GeneratedTokens")?,
    })
}

/// `2023-11-16 18:15:46.6805900` as time since the year 0.
fn timestamp(text: &str) -> Result<Duration, String> {
    let plain = text.trim().trim_end_matches('Z').replace('T', " ");
    let time = DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", plain)
        .map_err(|_| format!("TIMESTAMP {text:?} is not YYYY-MM-DD HH:MM:SS.fraction"))?;
    Ok(time.duration_since(DateTime::ZERO).unsigned_abs())
}

/// Its time is counted from wherever the file's clock began.
fn json_line(text: &str) -> Result<TracedCall, String> {
    #[derive(Deserialize)]
    struct Recorded {
        timestamp: f64,
        input_length: u32,
        output_length: u32,
    }
    let line: Recorded = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !(0.0..1e12).contains(&line.timestamp) {
        return Err(format!(
            "timestamp {} is not a number of milliseconds",
            line.timestamp
        ));
    }
    Ok(TracedCall {
        at: Duration::from_secs_f64(line.timestamp / 1000.0),
        input_tokens: line.input_length,
        output_tokens: line.output_length,
    })
}

/// A column of a trace to draw from: `azure-conv.input`, `mooncake.output` …
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceColumn {
    trace: TraceName,
    side: TokenSide,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenSide {
    Input,
    Output,
}

impl TraceColumn {
    #[must_use]
    pub fn fitted(&self) -> &'static Fitted {
        let shape = fitted::shape(self.trace);
        match self.side {
            TokenSide::Input => &shape.input_tokens,
            TokenSide::Output => &shape.output_tokens,
        }
    }

    /// Reads `TRACE.input` or `TRACE.output`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (trace, side) = text.split_once('.')?;
        let side = match side {
            "input" => TokenSide::Input,
            "output" => TokenSide::Output,
            _ => return None,
        };
        Some(Self {
            trace: trace.parse().ok()?,
            side,
        })
    }
}

impl fmt::Display for TraceColumn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            TokenSide::Input => "input",
            TokenSide::Output => "output",
        };
        write!(formatter, "{}.{side}", self.trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Trace, TraceError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Trace::read(&path)
    }

    #[test]
    fn reads_csv_over_midnight_and_month() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-02-29 23:59:59.5000000,374,44\n2024-03-01 00:00:01.2500000,396,109";
        let trace = read("t.csv", text).unwrap();
        assert_eq!(
            trace.calls[0],
            TracedCall {
                at: Duration::ZERO,
                input_tokens: 374,
                output_tokens: 44
            }
        );
        assert_eq!(trace.calls[1].at, Duration::from_millis(1750));
    }

    #[test]
    fn reads_json_lines_in_the_order_of_time() {
        let text = "{\"timestamp\": 3000, \"input_length\": 7, \"output_length\": 2, \"hash_ids\": [1]}\n{\"timestamp\": 1000, \"input_length\": 5, \"output_length\": 1}\n";
        let trace = read("t.jsonl", text).unwrap();
        assert_eq!(
            trace
                .calls
                .iter()
                .map(|call| call.input_tokens)
                .collect::<Vec<_>>(),
            [5, 7]
        );
        assert_eq!(trace.calls[1].at, Duration::from_secs(2));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = read(
            "t.csv",
            "2023-11-16 18:15:46.6,374,44\n2023-13-16 18:15:46,1,1\n",
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("line 2") && error.to_string().contains("2023-13-16"),
            "{error}"
        );
        let error = read("t.csv", "2023-11-16 18:15:46.6,many,44\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("ContextTokens \"many\""), "{error}");
        assert!(
            read("t.txt", "")
                .unwrap_err()
                .to_string()
                .contains(".jsonl")
        );
        assert!(
            read("t.jsonl", "")
                .unwrap_err()
                .to_string()
                .contains("no calls")
        );
    }

    #[test]
    fn names_and_columns_are_spelled_as_they_are_read() {
        for name in TraceName::ALL {
            assert_eq!(name.to_string().parse::<TraceName>().unwrap(), name);
            let column = TraceColumn::parse(&format!("{name}.output")).unwrap();
            assert_eq!(TraceColumn::parse(&column.to_string()), Some(column));
        }
        assert_eq!(TraceColumn::parse("azure-conv.price"), None);
    }
}
