//! The keys that providers are called with: where they come from, and what they are called.
//!
//! A key stands in the settings (usually as `${env:NAME}`), or is read from an environment
//! variable, a file, or a directory with a file for each key, as Kubernetes mounts secrets. Each has
//! a name, `provider#label`, which is all that errors, events, logs and metrics ever say of it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use weir_dialects::Vendor;
use weir_limits::OperatorLimits;

use crate::caps::{DIR_KEYS_MAX, PROVIDER_KEY_BYTES_MAX};
use crate::setup::config::{KeyConfig, KeySource, ProviderConfig};
use crate::setup::problem::ConfigProblem;
use weir_governance::caps::LABEL_BYTES_MAX;
use weir_governance::control::record::is_label;

/// A header that shows a key. It prints as `Sensitive`.
pub(crate) type AuthHeader = (HeaderName, HeaderValue);

/// The files in a directory that hold keys: whatever is no directory and does not begin with a dot.
/// Kubernetes keeps the versions of a mount, and the link to the newest, behind dots.
pub fn key_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Follows links, which is what the files of such a mount are.
        if !hidden && !entry.path().is_dir() {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// A key that is ready.
#[derive(Clone, Debug)]
pub(crate) struct ProviderKey {
    pub(crate) label: String,
    pub(crate) auth: AuthHeader,
    /// Share of the calls, relative to the provider's other keys.
    pub(crate) weight: u32,
    /// What it may send at most.
    pub(crate) granted: OperatorLimits,
}

impl ProviderKey {
    pub(crate) fn name(&self, provider: &str) -> String {
        format!("{provider}#{}", self.label)
    }
}

/// The keys of one provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProviderKeys {
    /// Those that everybody's calls share.
    pub(crate) pool: Vec<ProviderKey>,
    /// Those that are used for the teams that name them, and for nobody else.
    pub(crate) of_teams: Vec<ProviderKey>,
}

impl ProviderKeys {
    pub(crate) fn names(&self, provider: &str) -> impl Iterator<Item = String> {
        let keys = self.pool.iter().chain(&self.of_teams);
        keys.map(move |key| key.name(provider))
    }

    /// Reads all keys of a provider. What is wrong is told by name and place within the provider, never
    /// by content.
    pub(crate) fn read(
        config: &ProviderConfig,
        vendor: &Vendor,
    ) -> Result<Self, Vec<ConfigProblem>> {
        let mut reading = Reading {
            provider: &config.name,
            vendor,
            labels: HashSet::new(),
            problems: Vec::new(),
        };
        let keys = Self {
            pool: reading.list("keys", &config.keys),
            of_teams: reading.list("team_keys", &config.team_keys),
        };
        if reading.problems.is_empty() {
            Ok(keys)
        } else {
            Err(reading.problems)
        }
    }
}

struct Reading<'a> {
    provider: &'a str,
    vendor: &'a Vendor,
    labels: HashSet<String>,
    problems: Vec<ConfigProblem>,
}

impl Reading<'_> {
    fn list(&mut self, setting: &str, configs: &[KeyConfig]) -> Vec<ProviderKey> {
        let mut keys = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let path = format!("{setting}[{index}]");
            match config {
                KeyConfig::Text(_) if setting == "team_keys" => {
                    let message = "has no name that a team could call it by; write { name = …, \
                                   env = … } or { name = …, file = … }";
                    self.problems.push(ConfigProblem::new(path, message));
                }
                KeyConfig::Text(key) => {
                    let (label, read) = ((index + 1).to_string(), key.expose().to_owned());
                    keys.extend(self.key(path, label, Ok(read), None));
                }
                KeyConfig::From(source) => self.source(&path, index, source, &mut keys),
            }
        }
        keys
    }

    fn source(
        &mut self,
        path: &str,
        index: usize,
        source: &KeySource,
        keys: &mut Vec<ProviderKey>,
    ) {
        let name = source.name.clone();
        let label = name.unwrap_or_else(|| (index + 1).to_string());
        match (&source.env, &source.file, &source.dir) {
            (Some(variable), None, None) => {
                let read = std::env::var(variable)
                    .map_err(|_| format!("the environment variable {variable} is not set"));
                keys.extend(self.key(format!("{path}.env"), label, read, Some(source)));
            }
            (None, Some(file), None) => {
                keys.extend(self.key(format!("{path}.file"), label, read_key(file), Some(source)));
            }
            (None, None, Some(dir)) => self.dir(path, dir, source, keys),
            _ => {
                let message = "wants one of env, file and dir: the place of the key";
                self.problems.push(ConfigProblem::new(path, message));
            }
        }
    }

    fn dir(&mut self, path: &str, dir: &Path, source: &KeySource, keys: &mut Vec<ProviderKey>) {
        if source.name.is_some() {
            let message = "has no effect with dir: a key is called as its file";
            let problem = ConfigProblem::new("name", message).within(path);
            self.problems.push(problem);
        }
        let path = format!("{path}.dir");
        let files = match key_files(dir) {
            Ok(files) if (1..=DIR_KEYS_MAX).contains(&files.len()) => Ok(files),
            Ok(files) => Err(format!(
                "holds {} files; it must be 1 to {DIR_KEYS_MAX}, one for each key",
                files.len()
            )),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        match files {
            Ok(files) => keys.extend(files.iter().filter_map(|file| {
                let label = file.file_name().unwrap_or_default().to_string_lossy();
                self.key(
                    path.clone(),
                    label.into_owned(),
                    read_key(file),
                    Some(source),
                )
            })),
            Err(problem) => {
                let (provider, shown) = (self.provider, dir.display());
                let message = format!("keys of \"{provider}\": the directory {shown} {problem}");
                self.problems.push(ConfigProblem::new(path, message));
            }
        }
    }

    fn key(
        &mut self,
        path: String,
        label: String,
        read: Result<String, String>,
        source: Option<&KeySource>,
    ) -> Option<ProviderKey> {
        match self.auth(&label, read) {
            Ok(auth) => Some(ProviderKey {
                label,
                auth,
                weight: source.map_or(1, |source| source.weight),
                granted: source.map(KeySource::granted).unwrap_or_default(),
            }),
            Err(problem) => {
                // A label that is none is left out: it may be a key in the wrong place.
                let label = if is_label(&label) { &label } else { "(…)" };
                let message = format!("key \"{}#{label}\": {problem}", self.provider);
                self.problems.push(ConfigProblem::new(path, message));
                None
            }
        }
    }

    fn auth(&mut self, label: &str, read: Result<String, String>) -> Result<AuthHeader, String> {
        if !is_label(label) {
            return Err(format!(
                "its name must have 1 to {LABEL_BYTES_MAX} letters, digits, dots, hyphens and \
                 underscores, and not begin as a key does"
            ));
        }
        let read = read?;
        let key = read.trim();
        if !self.labels.insert(label.to_owned()) {
            return Err("there are two keys of this name; give one of them another".into());
        }
        if key.is_empty() {
            return Err("it is empty".into());
        }
        self.vendor
            .auth_header(key)
            .map_err(|_| "it holds characters that no key has".into())
    }
}

/// The content of a file, or why it cannot be a key.
fn read_key(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let cannot = |error: io::Error| format!("the file {shown} cannot be read: {error}");
    let mut read = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(PROVIDER_KEY_BYTES_MAX + 1)
        .read_to_end(&mut read)
        .map_err(cannot)?;
    if read.len() as u64 > PROVIDER_KEY_BYTES_MAX {
        return Err(format!(
            "the file {shown} is larger than {PROVIDER_KEY_BYTES_MAX} bytes, as no key is"
        ));
    }
    String::from_utf8(read).map_err(|_| format!("the file {shown} is not text"))
}

#[cfg(test)]
mod tests {
    use weir_dialects::vendors;

    use super::*;

    const CANARY: &str = "canary-0f3a";

    fn read(keys: &str) -> Result<Vec<String>, String> {
        let text = format!("name = \"p\"\ndialect = \"openai\"\nbase_url = \"\"\n{keys}");
        let config: ProviderConfig = toml::from_str(&text).unwrap();
        let vendor = vendors::find("openai").unwrap();
        ProviderKeys::read(&config, vendor)
            .map(|keys| {
                let all = keys.pool.iter().chain(&keys.of_teams);
                all.map(|key| key.label.clone()).collect()
            })
            .map_err(|problems| format!("{problems:?}"))
    }

    #[test]
    fn keys_are_called_by_their_place_their_name_or_their_file() {
        let dir = tempfile::tempdir().unwrap();
        // As Kubernetes mounts a secret: files are links into a version behind a link.
        let version = dir.path().join("..2026_01");
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("blue"), "key-blue\n").unwrap();
        std::os::unix::fs::symlink("..2026_01", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/blue", dir.path().join("blue")).unwrap();
        let shown = dir.path().display();
        let labels = read(&format!(
            "keys = [\"a\", {{ file = \"{shown}/blue\" }}, {{ name = \"x\", file = \"{shown}/blue\" }}]\n\
             team_keys = [{{ dir = \"{shown}\" }}]"
        ));
        assert_eq!(labels.unwrap(), ["1", "2", "x", "blue"]);
    }

    #[test]
    fn what_is_wrong_names_the_key_and_the_place_and_never_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().display();
        std::fs::write(dir.path().join("bad"), format!("{CANARY}\n{CANARY}")).unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        let cases = [
            (format!("keys = [\"{CANARY}\\n1\"]"), "keys[0]", "p#1"),
            (
                format!("keys = [\"\", {{ file = \"{shown}/bad\" }}]"),
                "keys[1].file",
                "p#2",
            ),
            (
                format!("keys = [{{ file = \"{shown}/empty\" }}]"),
                "keys[0].file",
                "empty",
            ),
            (
                format!("keys = [{{ file = \"{shown}/none\" }}]"),
                "/none cannot be read",
                "p#1",
            ),
            (
                format!("keys = [{{ dir = \"{shown}\" }}]"),
                "keys[0].dir",
                "p#bad",
            ),
            (
                format!("keys = [{{ dir = \"{shown}/no\" }}]"),
                "/no cannot be read",
                "\\\"p\\\"",
            ),
            (
                "keys = [{ weight = 1 }]".into(),
                "keys[0]",
                "one of env, file and dir",
            ),
            (
                "keys = [{ env = \"WEIR_NOT_SET\" }]".into(),
                "WEIR_NOT_SET is not set",
                "p#1",
            ),
            (
                format!("team_keys = [\"{CANARY}\"]"),
                "team_keys[0]",
                "has no name",
            ),
            (
                format!(
                    "keys = [\"a\"]\nteam_keys = [{{ name = \"sk-{CANARY}\", env = \"HOME\" }}]"
                ),
                "team_keys[0].env",
                "its name must have",
            ),
            (
                "keys = [\"a\", { name = \"1\", env = \"HOME\" }]".into(),
                "keys[1].env",
                "two keys",
            ),
        ];
        for (keys, place, word) in cases {
            let said = read(&keys).unwrap_err();
            assert!(
                said.contains(place) && said.contains(word),
                "{keys}: {said}"
            );
            assert!(!said.contains(CANARY), "{said}");
        }
    }
}
