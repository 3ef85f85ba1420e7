//! Reads a configuration file: parse it with positions, resolve references, deserialize, check. All
//! problems are reported at once, with file, line and column.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize as _, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use weir_gateway::config::KeyConfig;
use weir_gateway::{ConfigProblem, Directory};
use weir_schemas::prices::Book;

use super::Config;
use super::check::check;
use super::reference::{References, interpolate_table};
use super::seen::FileVersions;

/// A configuration that can run.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) directory: Directory,
    /// The files that it was read from, including files and directories of secrets.
    pub(crate) seen: Vec<FileVersions>,
}

/// All problems of a file.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.iter().map(PlacedProblem::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct InvalidConfig {
    pub(crate) problems: Vec<PlacedProblem>,
}

/// One problem and its position.
#[derive(Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{place}: {message}")]
pub(crate) struct PlacedProblem {
    /// `weir.toml:12:8`, or only the file.
    pub(crate) place: String,
    pub(crate) message: String,
}

/// Reads and checks a file. The new directory takes over the learned state of `before`.
pub(crate) fn load(path: &Path, before: Option<&Directory>) -> Result<Loaded, InvalidConfig> {
    let seen = FileVersions::of(path);
    let source = read(path)?;
    let mut loaded = parse(&path.display().to_string(), &source, before)?;
    loaded.seen.insert(0, seen);
    Ok(loaded)
}

/// Reads and checks everything but the provider keys, which only the gateway needs.
pub(crate) fn load_settings(path: &Path) -> Result<Config, InvalidConfig> {
    let source = read(path)?;
    let name = path.display().to_string();
    let file = SourceText {
        name: &name,
        text: &source,
    };
    let mut table = file.table()?;
    forget_provider_keys(table.get_mut());
    let (config, problems, _) = file.config(&mut table)?;
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(file.invalid(problems))
    }
}

fn forget_provider_keys(table: &mut DeTable<'_>) {
    let Some(providers) = table.get_mut("provider") else {
        return;
    };
    if let DeValue::Array(providers) = providers.get_mut() {
        for provider in providers.iter_mut() {
            if let DeValue::Table(provider) = provider.get_mut() {
                provider.remove("keys");
                provider.remove("team_keys");
            }
        }
    }
}

fn read(path: &Path) -> Result<String, InvalidConfig> {
    std::fs::read_to_string(path).map_err(|error| InvalidConfig {
        problems: vec![PlacedProblem {
            place: path.display().to_string(),
            message: format!("cannot be read: {error}"),
        }],
    })
}

/// Checks the text of a file.
pub(crate) fn parse(
    name: &str,
    source: &str,
    before: Option<&Directory>,
) -> Result<Loaded, InvalidConfig> {
    let file = SourceText { name, text: source };
    let mut table = file.table()?;
    let (mut config, mut problems, mut seen) = file.config(&mut table)?;
    let (book, wrong_prices) = match config.price_book() {
        Ok(book) => (book, Vec::new()),
        Err(problems) => (Book::default(), problems),
    };
    problems.extend(placed(&table, wrong_prices));
    // Before the directory reads them.
    let keys = provider_keys(&mut config);
    seen.extend(keys.filter_map(|key| key.path().map(FileVersions::of)));
    let breaker = config.routing.breaker;
    let built = Directory::build(
        &config.providers,
        &config.aliases,
        &config.models,
        breaker,
        &book,
        before,
    );
    let directory = match built {
        Ok(directory) if problems.is_empty() => {
            provider_keys(&mut config).for_each(KeyConfig::forget);
            return Ok(Loaded {
                config,
                directory,
                seen,
            });
        }
        Ok(_) => Vec::new(),
        Err(found) => found,
    };
    for problem in placed(&table, directory) {
        // Some mistakes are seen from both sides: once is enough.
        if problems.iter().all(|known| known.0 != problem.0) {
            problems.push(problem);
        }
    }
    Err(file.invalid(problems))
}

/// All provider keys. They are erased once the directory has them, so that nothing can show them.
fn provider_keys(config: &mut Config) -> impl Iterator<Item = &mut KeyConfig> {
    let providers = config.providers.iter_mut();
    providers.flat_map(|provider| provider.keys.iter_mut().chain(&mut provider.team_keys))
}

/// A file's text, to turn offsets into lines.
struct SourceText<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> SourceText<'a> {
    fn table(&self) -> Result<Spanned<DeTable<'a>>, InvalidConfig> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(table);
        }
        Err(self.invalid(errors.iter().map(|e| (e.span(), e.message().to_owned()))))
    }

    /// The settings, their problems, and the files that they refer to.
    fn config(
        &self,
        table: &mut Spanned<DeTable<'a>>,
    ) -> Result<(Config, Vec<Misplaced>, Vec<FileVersions>), InvalidConfig> {
        let mut found = References::default();
        interpolate_table(table.get_mut(), &mut found);
        let References {
            mut problems,
            files,
        } = found;
        // A setting that fails is removed, so that the rest is checked too.
        loop {
            match Config::deserialize(toml::de::Deserializer::from(table.clone())) {
                Ok(config) => {
                    problems.extend(placed(table, check(&config)));
                    return Ok((config, problems, files));
                }
                Err(error) => {
                    let span = error.span();
                    problems.push((span.clone(), with_suggestion(error.message())));
                    if !span.is_some_and(|span| take_out(table.get_mut(), &span)) {
                        return Err(self.invalid(problems));
                    }
                }
            }
        }
    }

    fn invalid(&self, problems: impl IntoIterator<Item = Misplaced>) -> InvalidConfig {
        let mut problems: Vec<Misplaced> = problems.into_iter().collect();
        problems.sort_by_key(|(span, _)| span.as_ref().map(|span| span.start));
        let problem = |(span, message)| PlacedProblem {
            place: self.place(span),
            message,
        };
        InvalidConfig {
            problems: problems.into_iter().map(problem).collect(),
        }
    }

    fn place(&self, span: Option<Range<usize>>) -> String {
        let Some(before) = span.and_then(|span| self.text.get(..span.start)) else {
            return self.name.to_owned();
        };
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before[line_start..].chars().count() + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

/// Removes texts from serde's `invalid type` and `invalid value`: they may be resolved secrets.
fn without_texts(message: &str) -> String {
    let begins = ["invalid type: string ", "invalid value: string "];
    let begin = begins.iter().find(|begin| message.starts_with(**begin));
    match (begin, message.rsplit_once(", expected ")) {
        (Some(begin), Some((_, expected))) => format!("{begin}(…), expected {expected}"),
        _ => message.to_owned(),
    }
}

/// Adds the nearest known name to serde's `unknown field` and `unknown variant`.
fn with_suggestion(message: &str) -> String {
    const LIKENESS_MIN: f64 = 0.7;
    let message = &without_texts(message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let [unknown, known @ ..] = quoted.as_slice() else {
        return message.to_owned();
    };
    if !message.starts_with("unknown ") {
        return message.to_owned();
    }
    let likeness = |name: &&&str| strsim::jaro_winkler(unknown, name);
    let nearest = known
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|name| likeness(name) >= LIKENESS_MIN) {
        Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

/// A problem and its byte range.
pub(super) type Misplaced = (Option<Range<usize>>, String);

fn placed(table: &Spanned<DeTable<'_>>, problems: Vec<ConfigProblem>) -> Vec<Misplaced> {
    let place = |problem: ConfigProblem| {
        let message = format!("{}: {}", problem.path, problem.message);
        (span_of(table.get_ref(), &problem.path), message)
    };
    problems.into_iter().map(place).collect()
}

/// Removes the setting at a byte range. Returns whether there was one.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let found = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span);
    if let Some(key) = found.map(|(key, _)| key.clone()) {
        return table.remove(&key).is_some();
    }
    table
        .iter_mut()
        .any(|(_, value)| take_out_of_value(value, span))
}

fn take_out_of_value(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => take_out(table, span),
        DeValue::Array(items) => items.iter_mut().any(|item| take_out_of_value(item, span)),
        _ => false,
    }
}

/// The byte range of a setting, such as `alias[0].targets[1].model`, or of its nearest parent.
fn span_of(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let mut span = None;
    let mut table = Some(table);
    let mut array = None;
    for step in path.split(['.', '[']) {
        let value = match step.strip_suffix(']') {
            Some(index) => {
                let items: &toml::de::DeArray<'_> = array?;
                items.get(index.parse::<usize>().ok()?)
            }
            None => table.and_then(|table| table.get(step)),
        };
        let Some(value) = value else { return span };
        span = Some(value.span());
        table = value.get_ref().as_table();
        array = value.get_ref().as_array();
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a text, line by line.
    fn complaints(source: &str) -> Vec<String> {
        match parse("weir.toml", source, None) {
            Ok(_) => Vec::new(),
            Err(invalid) => invalid.to_string().lines().map(str::to_owned).collect(),
        }
    }

    fn check_complaint(source: &str, place: &str, words: &[&str]) {
        let complaints = complaints(source);
        let found = complaints.iter().any(|complaint| {
            complaint.starts_with(place) && words.iter().all(|word| complaint.contains(word))
        });
        assert!(found, "{place} {words:?} is not in {complaints:#?}");
    }

    const PROVIDER: &str = "[[provider]]\nname = \"mock\"\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\n";

    #[test]
    fn a_misspelt_setting_is_named_with_the_nearest_known_one() {
        check_complaint(
            "[gateway]\nlisen = \"127.0.0.1:1\"\n",
            "weir.toml:2:1:",
            &["`lisen`", "did you mean `listen`?"],
        );
        check_complaint("[gatway]\n", "weir.toml:1:2:", &["did you mean `gateway`?"]);
        check_complaint(
            "[store]\nkind = \"embeded\"\n",
            "weir.toml:2:8:",
            &["did you mean `embedded`?"],
        );
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_in_order() {
        let source = format!(
            "[gateway]\nlisen = 1\nthreads = \"two\"\n[store]\nretention_days = 40000\n{PROVIDER}\
             [[alias]]\nname = \"a\"\ntargets = [{{ provider = \"mok\", model = \"m\" }}]\n"
        );
        let places: Vec<String> = complaints(&source)
            .iter()
            .map(|complaint| complaint.split(": ").next().unwrap().to_owned())
            .collect();
        assert_eq!(
            places,
            [
                "weir.toml:2:1",
                "weir.toml:3:11",
                "weir.toml:5:18",
                "weir.toml:12:25"
            ]
        );
    }

    #[test]
    fn a_target_names_a_provider_that_is_there() {
        let source = format!(
            "{PROVIDER}[[alias]]\nname = \"a\"\ntargets = [{{ provider = \"mok\", model = \"m\" }}]\n"
        );
        check_complaint(
            &source,
            "weir.toml:7:25:",
            &["alias[0].targets[0].provider", "did you mean \"mock\"?"],
        );
        let source = format!("{PROVIDER}[[alias]]\nname = \"a\"\ntargets = []\n");
        check_complaint(
            &source,
            "weir.toml:7:11:",
            &["alias[0].targets", "at least one"],
        );
        let source = format!(
            "{PROVIDER}[[alias]]\nname = \"a\"\nstrategy = \"weighted\"\ntargets = [{{ provider = \"mock\", model = \"m\", weight = 0 }}]\n"
        );
        check_complaint(&source, "weir.toml:8:11:", &["alias[0].targets", "weight"]);
        let source = format!("{PROVIDER}{PROVIDER}");
        check_complaint(&source, "weir.toml:6:8:", &["two providers named \"mock\""]);
    }

    fn check_alias_complaint(settings: &str, place: &str, words: &[&str]) {
        let source = format!(
            "{PROVIDER}[[alias]]\nname = \"a\"\n{settings}\ntargets = [{{ provider = \"mock\", model = \"m\" }}]\n"
        );
        check_complaint(&source, place, words);
    }

    #[test]
    fn settings_of_another_strategy_are_refused_where_they_stand() {
        let cases = [
            ("sticky = \"user\"", "alias[0].sticky", "\"weighted\""),
            (
                "prefix_affinity = true",
                "alias[0].prefix_affinity",
                "\"latency\"",
            ),
            ("exploration = 0.1", "alias[0].exploration", "\"cost\""),
        ];
        for (setting, path, strategy) in cases {
            check_alias_complaint(setting, "weir.toml:7:", &[path, "no effect", strategy]);
        }
        check_alias_complaint(
            "strategy = \"objective\"",
            "weir.toml:7:12:",
            &["alias[0].strategy", "ttft_p95_ms"],
        );
    }

    #[test]
    fn values_that_routing_cannot_use_are_refused() {
        let cases = [
            ("hedge = { budget_ratio = 2.0 }", "hedge.budget_ratio"),
            ("strategy = \"latency\"\nexploration = 0.9", "exploration"),
            ("retry = { tries_max = 0 }", "retry.tries_max"),
            (
                "shadow = { provider = \"mock\", model = \"n\", share = 3 }",
                "shadow.share",
            ),
        ];
        for (setting, word) in cases {
            check_alias_complaint(setting, "weir.toml:5:", &["alias[0]", word]);
        }
        check_alias_complaint(
            "shadow = { provider = \"mok\", model = \"n\", share = 0.1 }",
            "weir.toml:7:",
            &["alias[0].shadow.provider", "did you mean \"mock\"?"],
        );
        let source = "[routing]\nrefresh_s = 60\nwindow_s = 5\n[routing.breaker]\nopen_ms = 0\n";
        check_complaint(source, "weir.toml:3:12:", &["routing.window_s", "at least"]);
        check_complaint(source, "weir.toml:1:", &["breaker.open_ms"]);
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "canary-1, expected 2").unwrap();
        let reference = format!("\"${{file:{}}}\"", secret.display());
        for source in [
            format!("{PROVIDER}keys = {reference}\n"),
            format!("{PROVIDER}keys = [{{ env = \"HOME\", weight = {reference} }}]\n"),
            format!("{PROVIDER}keys = [{{ name = {reference}, env = \"HOME\" }}]\n"),
            format!("[gateway]\nlisten = {reference}\n"),
            format!("[gateway]\nthreads = {reference}\n"),
        ] {
            let complaints = complaints(&source);
            assert!(!complaints.is_empty(), "{source}");
            let shown = complaints.join("\n");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn text_that_is_not_toml_is_reported_where_it_stands() {
        check_complaint("[gateway]\nlisten = \n", "weir.toml:2:", &[]);
        check_complaint("[gateway\n", "weir.toml:1:", &[]);
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_reported_where_it_stands() {
        let source =
            "[store]\npassword = \"${env:WEIR_TEST_NOT_SET}\"\nuser = \"${file:/not/there}\"\n";
        check_complaint(
            source,
            "weir.toml:2:12:",
            &["WEIR_TEST_NOT_SET", "is not set"],
        );
        check_complaint(source, "weir.toml:3:8:", &["/not/there", "cannot be read"]);
        check_complaint(
            "[store]\nuser = \"${nev:X}\"\n",
            "weir.toml:2:8:",
            &["${env:NAME}"],
        );
    }

    #[test]
    fn references_are_replaced_wherever_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "s3cret\n").unwrap();
        let source = format!("[store]\npassword = \"<${{file:{}}}>\"\n", secret.display());
        assert_eq!(
            parse("weir.toml", &source, None)
                .unwrap()
                .config
                .store
                .password,
            "<s3cret>"
        );
    }

    #[test]
    fn provider_keys_are_not_kept_in_the_settings() {
        let source = format!("{PROVIDER}keys = [\"sk-secret\"]\n");
        let loaded = parse("weir.toml", &source, None).unwrap();
        assert_eq!(loaded.config.providers[0].keys.len(), 1);
        assert!(!format!("{loaded:?}").contains("sk-secret"));
    }

    #[test]
    fn settings_without_providers_need_no_provider_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.toml");
        let keys = "keys = [\"${env:WEIR_TEST_NOT_SET}\"]\n";
        std::fs::write(
            &path,
            format!("[store]\nretention_days = 7\n{PROVIDER}{keys}"),
        )
        .unwrap();
        assert!(load(&path, None).is_err());
        assert_eq!(load_settings(&path).unwrap().store.retention_days, 7);
    }
}
