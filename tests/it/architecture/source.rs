//! Rust files read as text.

use std::fs;
use std::path::{Path, PathBuf};

use weir_tests::weir::repository;

/// The code of one file, without comments and unit tests.
#[derive(Debug)]
pub(super) struct Source {
    /// In the repository.
    pub(super) path: String,
    /// The names of its module, outermost first; none for the root of a crate.
    pub(super) module: Vec<String>,
    pub(super) code: String,
}

impl Source {
    /// `path` starts at the crate's `src`.
    pub(super) fn new(path: &Path, text: &str) -> Self {
        let mut module: Vec<String> = path
            .with_extension("")
            .iter()
            .map(|name| name.to_str().unwrap().to_owned())
            .collect();
        if matches!(
            module.last().map(String::as_str),
            Some("mod" | "lib" | "main")
        ) {
            module.pop();
        }
        let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = product.lines();
        let code = lines.map(|line| line.split("//").next().unwrap_or_default());
        Self {
            path: path.display().to_string(),
            module,
            code: code.collect::<Vec<_>>().join("\n"),
        }
    }

    /// The part of the crate that the file is in.
    pub(super) fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// The parts of the crate that the file names, as `crate::room` or from below by `super::`.
    pub(super) fn named_rooms(&self) -> Vec<String> {
        let mut rooms = names_after(&self.code, "crate::");
        let to_the_root = "super::".repeat(self.module.len());
        if !self.module.is_empty() {
            rooms.extend(names_after(&self.code, &to_the_root));
        }
        rooms
    }
}

/// The first names of the paths behind a prefix: `a` and `b` behind `crate::` in `crate::{a::x, b}`.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$');
    let places = code.match_indices(prefix);
    let whole = places.filter(|(at, _)| !code[..*at].ends_with(is_part));
    whole
        .flat_map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => names_of_group(group),
                None => vec![name_at(rest)],
            }
        })
        .filter(|name| !name.is_empty() && name != "super")
        .collect()
}

/// The first names in a group, whose opening brace is gone.
fn names_of_group(group: &str) -> Vec<String> {
    let mut names = vec![name_at(group.trim_start())];
    let mut depth = 0_usize;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name_at(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    text.chars().take_while(is_part).collect()
}

/// All files below the `src` of a crate's folder.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    let src = repository().join(folder).join("src");
    let mut sources: Vec<Source> = files(&src)
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            Source::new(file.strip_prefix(&src).unwrap(), &text)
        })
        .collect();
    for source in &mut sources {
        source.path = format!("{folder}/src/{}", source.path);
    }
    sources
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn paths_are_found_in_every_form_and_not_in_comments_or_tests() {
    let text = "use crate::edge::server::Server;\n\
                use crate::{record::{a, b}, setup, upstream::Pool as P};\n\
                use super::super::request::pipeline; // see [crate::comment]\n\
                /// Like `crate::doc`.\n\
                fn f() { super::near(); $crate::other::m!(); crate::clock::now() }\n\
                #[cfg(test)]\nmod tests { use crate::tested; }\n";
    let source = Source::new(Path::new("request/attempt.rs"), text);
    assert_eq!(source.module, ["request", "attempt"]);
    assert_eq!(
        source.named_rooms(),
        ["edge", "record", "setup", "upstream", "clock", "request"]
    );
    let root = Source::new(Path::new("request/mod.rs"), "use super::edge;");
    assert_eq!(root.named_rooms(), ["edge"]);
    let deep = Source::new(
        Path::new("request/attempt/call.rs"),
        "use super::super::near;",
    );
    assert!(deep.named_rooms().is_empty());
}
