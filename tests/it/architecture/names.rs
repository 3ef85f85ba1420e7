//! One name, one type.

use std::collections::BTreeMap;

use super::source::sources;
use super::workspace;

/// Names that several types have, and why.
const SHARED_NAMES: [(&str, &str); 0] = [];

/// The names of the types that a text declares. An associated type is indented, and no type of its own.
fn declared(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let mut words = line
            .trim_start()
            .split([' ', '(', ')'])
            .filter(|it| !it.is_empty());
        let keyword = words.find(|it| !["pub", "crate", "super", "in", "unsafe"].contains(it))?;
        let is_type = match keyword {
            "struct" | "enum" | "trait" | "union" => true,
            "type" => !line.starts_with(' '),
            _ => false,
        };
        let end = |c: char| !c.is_alphanumeric() && c != '_';
        let name = is_type.then(|| words.next())??.split(end).next()?;
        name.starts_with(char::is_uppercase).then_some(name)
    })
}

#[test]
fn declarations_are_found() {
    let code = "pub struct A;\npub(crate) enum B<T> {\n    type C = u8;\nstruct D(u8);\n\
                type E<'a> = &'a u8;\npub(super) trait F: Sized {}\nfn structure() {}\nuse g::H;\n";
    assert_eq!(
        declared(code).collect::<Vec<_>>(),
        ["A", "B", "D", "E", "F"]
    );
}

#[test]
fn no_two_types_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let repository = workspace().workspace_root;
    for package in workspace().packages {
        if package.name.as_str() == "weir-tests" {
            continue;
        }
        let folder = package.manifest_path.parent().unwrap();
        let folder = folder.strip_prefix(&repository).unwrap();
        for source in sources(folder.as_str()) {
            if ["tests.rs", "/tests/", "simulation", "testing"]
                .iter()
                .any(|it| source.path.contains(it))
            {
                continue;
            }
            for name in declared(&source.code) {
                let places = places.entry(name.to_owned()).or_default();
                places.push(source.path.clone());
            }
        }
    }
    for (name, why) in SHARED_NAMES {
        let count = places.remove(name).map_or(0, |places| places.len());
        assert!(
            count > 1,
            "{name} is declared {count} times; it was shared because {why}"
        );
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}
