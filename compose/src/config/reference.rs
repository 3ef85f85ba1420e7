//! References to environment variables and files, `${env:NAME}` and `${file:PATH}`.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::read::Misplaced;
use super::seen::FileVersions;

/// The references found in a table.
#[derive(Default)]
pub(super) struct References {
    /// References that do not resolve.
    pub(super) problems: Vec<Misplaced>,
    /// The files that were read.
    pub(super) files: Vec<FileVersions>,
}

/// Replaces the references in a table.
pub(super) fn interpolate_table(table: &mut DeTable<'_>, found: &mut References) {
    for (_, value) in table.iter_mut() {
        interpolate(value, found);
    }
}

/// Replaces the references in a value.
fn interpolate(value: &mut Spanned<DeValue<'_>>, found: &mut References) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match resolve(text, &mut found.files) {
            Ok(resolved) => *text = resolved.into(),
            Err(message) => found.problems.push((Some(span), message)),
        },
        DeValue::Array(items) => {
            items.iter_mut().for_each(|item| interpolate(item, found));
        }
        DeValue::Table(table) => interpolate_table(table, found),
        _ => {}
    }
}

fn resolve(text: &str, files: &mut Vec<FileVersions>) -> Result<String, String> {
    let mut resolved = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        let end = reference.find('}').ok_or("`${` is not closed by `}`")?;
        resolved.push_str(before);
        resolved.push_str(&look_up(&reference[2..end], files)?);
        rest = &reference[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

fn look_up(reference: &str, files: &mut Vec<FileVersions>) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) => std::env::var(name).map_err(|_| {
            format!("the environment variable {name} is not set; set it, or write the value here")
        }),
        Some(("file", path)) => {
            files.push(FileVersions::of(Path::new(path)));
            std::fs::read_to_string(path)
                .map(|content| content.trim_end().to_owned())
                .map_err(|error| format!("the file {path} cannot be read: {error}"))
        }
        _ => Err(format!(
            "${{{reference}}} is neither ${{env:NAME}} nor ${{file:PATH}}"
        )),
    }
}
