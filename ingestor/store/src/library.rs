//! Where the engine's library is looked for, and what to do when it is nowhere.

use std::env;
use std::path::{Path, PathBuf};

use crate::engine::PACKAGE_VERSION;

/// Name of the library's file.
pub const FILE_NAME: &str = "libchdb.so";

/// Environment variable that names the library's file.
pub const LIBRARY_VARIABLE: &str = "WEIR_CHDB_LIB";

/// Environment variable that names the directory of fetched things, in place of `.weir`.
pub const CACHE_VARIABLE: &str = "WEIR_CACHE";

/// The command that fetches the library.
pub const FETCH_COMMAND: &str = "compose/fetch-engine.sh";

/// No library was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the engine's library {FILE_NAME} {PACKAGE_VERSION} was not found; looked at: {}",
    listed(looked_at)
)]
pub struct NotFound {
    /// Where it was looked for, in this order.
    pub looked_at: Vec<PathBuf>,
    /// The setting or variable that named a place, if one did: no other place was looked at then.
    pub named_by: Option<&'static str>,
}

impl NotFound {
    /// What to do about it.
    #[must_use]
    pub fn how_to_fix(&self) -> String {
        match self.named_by {
            Some(name) => format!("correct {name}, or unset it and run {FETCH_COMMAND}"),
            None => format!("run {FETCH_COMMAND} (178 MB), or set {LIBRARY_VARIABLE} to a copy"),
        }
    }
}

fn listed(places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|it| it.display().to_string()).collect();
    places.join(", ")
}

/// Finds the library.
///
/// A place that is named, by setting or by environment, is the only one looked at. Otherwise these
/// are, in this order: `lib` in the data directory, the program's directory, the cache directory,
/// and `.weir` in the program's and the current directory and everything above them.
pub fn find(setting: Option<&Path>, data_dir: &Path) -> Result<PathBuf, NotFound> {
    let surroundings = Surroundings {
        named: env::var_os(LIBRARY_VARIABLE).map(PathBuf::from),
        cache: env::var_os(CACHE_VARIABLE).map(PathBuf::from),
        program: env::current_exe().ok(),
        current: env::current_dir().ok(),
    };
    find_in(setting, data_dir, &surroundings)
}

/// What the process knows of where it is.
#[derive(Debug, Default)]
struct Surroundings {
    named: Option<PathBuf>,
    cache: Option<PathBuf>,
    program: Option<PathBuf>,
    current: Option<PathBuf>,
}

fn find_in(
    setting: Option<&Path>,
    data_dir: &Path,
    surroundings: &Surroundings,
) -> Result<PathBuf, NotFound> {
    let by_variable = surroundings.named.as_deref();
    let named = setting
        .map(|path| ("[store] library", path))
        .or_else(|| by_variable.map(|path| (LIBRARY_VARIABLE, path)));
    let (looked_at, named_by) = match named {
        Some((name, path)) => (vec![path.to_owned()], Some(name)),
        None => (usual_places(data_dir, surroundings), None),
    };
    match looked_at.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(NotFound {
            looked_at,
            named_by,
        }),
    }
}

fn usual_places(data_dir: &Path, surroundings: &Surroundings) -> Vec<PathBuf> {
    let fetched: PathBuf = ["chdb", PACKAGE_VERSION, FILE_NAME].iter().collect();
    let program_dir = surroundings.program.as_deref().and_then(Path::parent);
    let mut places = vec![data_dir.join("lib").join(FILE_NAME)];
    places.extend(program_dir.map(|directory| directory.join(FILE_NAME)));
    places.extend(surroundings.cache.iter().map(|cache| cache.join(&fetched)));
    let starts = [program_dir, surroundings.current.as_deref()];
    for directory in starts.into_iter().flatten().flat_map(Path::ancestors) {
        let place = directory.join(".weir").join(&fetched);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn the_nearest_of_the_usual_places_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let data_dir = root.join("data");
        let surroundings = Surroundings {
            cache: Some(root.join("cache")),
            program: Some(root.join("repo/target/debug/weir")),
            current: Some(root.join("repo/tests")),
            ..Surroundings::default()
        };
        let nearest_last = [
            root.join("repo/.weir/chdb")
                .join(PACKAGE_VERSION)
                .join(FILE_NAME),
            root.join("cache/chdb")
                .join(PACKAGE_VERSION)
                .join(FILE_NAME),
            root.join("repo/target/debug").join(FILE_NAME),
            data_dir.join("lib").join(FILE_NAME),
        ];
        for place in nearest_last {
            touch(&place);
            assert_eq!(find_in(None, &data_dir, &surroundings), Ok(place));
        }
    }

    #[test]
    fn a_named_place_is_the_only_one() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("data");
        touch(&data_dir.join("lib").join(FILE_NAME));
        let wrong = root.path().join("wrong.so");
        let by_variable = Surroundings {
            named: Some(wrong.clone()),
            ..Surroundings::default()
        };
        let error = find_in(None, &data_dir, &by_variable).unwrap_err();
        assert_eq!(error.looked_at, std::slice::from_ref(&wrong));
        assert!(
            error.how_to_fix().contains(LIBRARY_VARIABLE),
            "{}",
            error.how_to_fix()
        );
        let error = find_in(Some(&wrong), &data_dir, &Surroundings::default()).unwrap_err();
        assert!(
            error.how_to_fix().contains("[store] library"),
            "{}",
            error.how_to_fix()
        );
    }

    #[test]
    fn the_error_says_where_and_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let error = find_in(None, root.path(), &Surroundings::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(root.path().join("lib").to_str().unwrap()),
            "{error}"
        );
        assert!(
            error.how_to_fix().contains(FETCH_COMMAND),
            "{}",
            error.how_to_fix()
        );
    }
}
