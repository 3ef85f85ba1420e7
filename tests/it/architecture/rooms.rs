//! The order of rooms inside a crate.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, sources};

/// The rooms of `gateway/src`, top to bottom. A room imports only from those below it, so that what the
/// workers share, which is in `request`, is known to `request` and `edge` alone.
pub(crate) const GATEWAY_ROOMS: [&str; 5] = ["edge", "request", "record", "setup", "upstream"];

/// Small files that every room may import, and that import no room.
const GATEWAY_GROUND: [&str; 2] = ["caps", "clock"];

/// Crates whose parts must form no circle of imports.
const WITHOUT_CIRCLES: [&str; 11] = [
    "schemas",
    "gateway",
    "gateway/governance",
    "gateway/dialects",
    "gateway/limits",
    "gateway/routing",
    "gateway/redaction",
    "ingestor",
    "ingestor/controller",
    "ingestor/eventlog",
    "ingestor/store",
];

/// Imports that run back up, in words.
fn back_up(sources: &[Source], rooms: &[&str], ground: &[&str]) -> Vec<String> {
    let floor = |name: &str| match ground.contains(&name) {
        true => Some(rooms.len()),
        false => rooms.iter().position(|room| *room == name),
    };
    let mut found = Vec::new();
    // The root of the crate joins all rooms.
    for source in sources.iter().filter(|source| source.room().is_some()) {
        let own = source.room().unwrap();
        let path = &source.path;
        let Some(own_floor) = floor(own) else {
            found.push(format!("{path} is in no room"));
            continue;
        };
        for named in source.named_rooms() {
            match floor(&named) {
                None => found.push(format!("{path} imports {named}, which is no room")),
                Some(floor) if floor < own_floor => found.push(format!("{path} imports {named}")),
                Some(_) => {}
            }
        }
    }
    found
}

#[test]
fn an_import_that_runs_back_up_is_found() {
    let file = |path: &str, text: &str| Source::new(path.as_ref(), text);
    let rooms = ["edge", "request", "record"];
    let good = [
        file("lib.rs", "mod edge; pub use edge::start;"),
        file("edge/server.rs", "use crate::request::Worker;"),
        file(
            "request/worker.rs",
            "use crate::record::Trail; use crate::clock::Clock;",
        ),
        file("clock.rs", "use std::time::Instant;"),
    ];
    assert_eq!(back_up(&good, &rooms, &["clock"]), [""; 0]);
    let bad = [
        file("record/trail.rs", "use crate::{clock, request::Worker};"),
        file("clock.rs", "use super::record::Trail;"),
        file("hall.rs", ""),
    ];
    assert_eq!(
        back_up(&bad, &rooms, &["clock"]),
        [
            "record/trail.rs imports request",
            "clock.rs imports record",
            "hall.rs is in no room"
        ]
    );
}

#[test]
fn no_room_of_the_gateway_imports_from_a_room_above_it() {
    let found = back_up(&sources("gateway"), &GATEWAY_ROOMS, &GATEWAY_GROUND);
    assert!(found.is_empty(), "{found:#?}");
}

/// The parts of a crate, each with the others that it imports.
fn imports(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let parts: BTreeSet<&str> = sources.iter().filter_map(Source::room).collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let Some(own) = source.room() else { continue };
        let named = source.named_rooms().into_iter();
        let others = named.filter(|name| name != own && parts.contains(name.as_str()));
        imports.entry(own.to_owned()).or_default().extend(others);
    }
    imports
}

/// What remains when parts that import nothing that remains are taken away again and again.
fn circles(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let ground: BTreeSet<String> = imports
            .iter()
            .filter(|(_, imported)| imported.is_empty())
            .map(|(part, _)| part.clone())
            .collect();
        if ground.is_empty() {
            return imports;
        }
        imports.retain(|part, _| !ground.contains(part));
        for imported in imports.values_mut() {
            imported.retain(|part| !ground.contains(part));
        }
    }
}

#[test]
fn a_circle_of_imports_is_found() {
    let file = |path: &str, text: &str| Source::new(path.as_ref(), text);
    let files = [
        file("a.rs", "use crate::b::X;"),
        file("b/c.rs", "use super::super::d;"),
        file("d.rs", "use crate::b;"),
        file("e.rs", "use crate::outside;"),
    ];
    let left: Vec<String> = circles(imports(&files)).into_keys().collect();
    assert_eq!(left, ["a", "b", "d"]);
}

#[test]
fn the_parts_of_a_crate_form_no_circle() {
    for folder in WITHOUT_CIRCLES {
        let left = circles(imports(&sources(folder)));
        assert!(left.is_empty(), "{folder}: {left:#?}");
    }
}
