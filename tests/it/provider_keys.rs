//! Provider keys: from files and directories, several at a provider, exchanged while they are in
//! use, and refused by the provider.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::{chat, completion};
use weir_tests::http::get;
use weir_tests::weir::{Installation, Process, wait_for};

const OLD: &str = "sk-canary-old-provider-key";
const NEW: &str = "sk-canary-new-provider-key";
const OTHER: &str = "sk-canary-other-provider-key";

fn provider(mock: &MockHandle, keys: &str) -> String {
    format!(
        "[[provider]]\nname = \"mock\"\ndialect = \"openai\"\nbase_url = \"{}\"\n{keys}\n\n\
         [[alias]]\nname = \"fast-chat\"\nstrategy = \"weighted\"\n\
         targets = [{{ provider = \"mock\", model = \"small\" }}]\n",
        mock.base_url()
    )
}

fn accepting(keys: &[&str]) -> MockHandle {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    MockProvider::start(MockOptions {
        keys,
        ..MockOptions::default()
    })
    .unwrap()
}

/// A directory of secrets as Kubernetes mounts it: links to the files of a version, which is
/// exchanged as a whole by turning one link.
struct Mount {
    dir: PathBuf,
    version: u32,
}

impl Mount {
    fn new(dir: PathBuf, keys: &[(&str, &str)]) -> Self {
        fs::create_dir(&dir).unwrap();
        for (name, _) in keys {
            symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
        }
        let mut mount = Self { dir, version: 0 };
        mount.exchange(keys);
        mount
    }

    fn exchange(&mut self, keys: &[(&str, &str)]) {
        self.version += 1;
        let version = format!("..version_{}", self.version);
        fs::create_dir(self.dir.join(&version)).unwrap();
        for (name, key) in keys {
            fs::write(self.dir.join(&version).join(name), key).unwrap();
        }
        symlink(&version, self.dir.join("..data_tmp")).unwrap();
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data")).unwrap();
    }
}

/// An installation whose keys are in the directory of its configuration.
fn installation(mock: &MockHandle, keys: impl Fn(&Path) -> String) -> Installation {
    let weir = Installation::new("").unwrap();
    let text = fs::read_to_string(weir.config()).unwrap();
    let config = text + &provider(mock, &keys(weir.dir()));
    fs::write(weir.config(), config).unwrap();
    weir
}

fn start(weir: &Installation, command: &str) -> (Process, String) {
    let key = weir.create_key("growth").unwrap();
    let process = weir.start(&[command]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_until_known(&key).unwrap();
    (process, key)
}

fn metric(weir: &Installation, line: &str) -> bool {
    let page = get(weir.gateway, "/metrics").unwrap();
    page.lines().any(|known| known == line)
}

fn calls_with(mock: &MockHandle, key: &str) -> u64 {
    mock.ledger().by_key.get(key).map_or(0, |tally| tally.calls)
}

#[test]
fn a_key_that_the_provider_refuses_is_out_until_it_is_another() {
    let mock = accepting(&[OTHER, NEW]);
    let weir = installation(&mock, |dir| {
        format!("keys = [{{ dir = \"{}/keys\" }}]", dir.display())
    });
    let dir = weir.dir().join("keys");
    let mut mount = Mount::new(dir, &[("blue", OTHER), ("green", OLD)]);
    let (up, key) = start(&weir, "up");
    weir.wait_for_store().unwrap();

    // Every answer is good: the other key takes over, also for the request that finds out.
    let refused = "weir_provider_key_refused{provider_key=\"mock#green\"} 1";
    wait_for("the refused key is out", || {
        assert_eq!(chat(weir.gateway, &key).status, 200);
        Ok(metric(&weir, refused))
    })
    .unwrap();
    let before = mock.ledger().total.calls;
    for _ in 0..20 {
        assert_eq!(chat(weir.gateway, &key).status, 200);
    }
    assert_eq!(
        mock.ledger().total.calls,
        before + 20,
        "nobody asks with it"
    );
    assert!(metric(
        &weir,
        "weir_provider_key_refused{provider_key=\"mock#blue\"} 0"
    ));

    let shown = weir.run(&["routes", "show"]).unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("refuses the key mock#green"), "{shown}");
    let doctor = weir.command(&["doctor"]).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("it refuses the key mock#green"), "{said}");

    mount.exchange(&[("blue", OTHER), ("green", NEW)]);
    wait_for("the new key is in use", || {
        assert_eq!(chat(weir.gateway, &key).status, 200);
        Ok(calls_with(&mock, NEW) > 0 && !metric(&weir, refused))
    })
    .unwrap();
    let changes = "SELECT count() FROM weir.deployment_states WHERE provider_key = 'mock#green'";
    weir.wait_for_number(
        &format!("{changes} AND state = 'ejected' AND cause = 'key'"),
        1,
    )
    .unwrap();
    weir.wait_for_number(&format!("{changes} AND state = 'recovered'"), 1)
        .unwrap();
    let log = up.log();
    for canary in [OLD, NEW, OTHER] {
        assert!(!log.contains(canary), "{log}");
    }
}

#[test]
fn a_key_is_exchanged_under_load_without_a_failed_request() {
    let mock = accepting(&[OLD, NEW]);
    mock.set_latency("5ms".parse().unwrap(), "20ms".parse().unwrap());
    let weir = installation(&mock, |dir| {
        let file = dir.join("key");
        fs::write(&file, OLD).unwrap();
        format!("keys = [\"${{file:{}}}\"]", file.display())
    });
    let (gateway, key) = start(&weir, "gateway");
    let body = r#"{"model":"fast-chat","messages":[{"role":"user","content":"Hello"}],"max_tokens":60,"stream":true}"#;
    let (weir, call) = (&weir, &completion(&key, body));
    std::thread::scope(|scope| {
        let calling: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..3 {
                        let answer = call.send(weir.gateway).unwrap();
                        assert_eq!(answer.status, 200, "{answer:?}");
                        assert!(answer.text().contains("[DONE]"), "{answer:?}");
                    }
                })
            })
            .collect();
        wait_for("streams are under way", || {
            Ok(mock.ledger().total.in_flight > 0)
        })
        .unwrap();
        // What is no key leaves the old one in force, and is said by name.
        let file = weir.dir().join("key");
        fs::write(&file, format!("{NEW}\n{NEW}\n")).unwrap();
        wait_for("the bad file is reported", || {
            Ok(gateway
                .log()
                .contains("key \"mock#1\": it holds characters"))
        })
        .unwrap();
        assert_eq!(calls_with(&mock, NEW), 0);
        fs::write(&file, format!("{NEW}\n")).unwrap();
        calling.into_iter().for_each(|it| it.join().unwrap());
    });
    wait_for("the new key is in use", || {
        assert_eq!(chat(weir.gateway, &key).status, 200);
        Ok(calls_with(&mock, NEW) > 0)
    })
    .unwrap();
    assert_eq!(
        mock.ledger().total.by_status.keys().collect::<Vec<_>>(),
        [&200]
    );
    let log = gateway.log();
    assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
}

#[test]
fn keys_share_calls_by_weight_and_a_file_that_is_missing_is_named() {
    let mock = accepting(&[OLD, NEW]);
    let weir = installation(&mock, |dir| {
        fs::write(dir.join("one"), OLD).unwrap();
        fs::write(dir.join("two"), NEW).unwrap();
        let dir = dir.display();
        format!(
            "keys = [{{ name = \"one\", file = \"{dir}/one\", weight = 9 }}, \
             {{ name = \"two\", file = \"{dir}/two\" }}]"
        )
    });
    let (gateway, key) = start(&weir, "gateway");
    for _ in 0..200 {
        assert_eq!(chat(weir.gateway, &key).status, 200);
    }
    // 20 are expected; a fair draw is outside of this once in a million runs.
    let second = calls_with(&mock, NEW);
    assert!((2..=44).contains(&second), "{second} of 200");
    drop(gateway);

    fs::remove_file(weir.dir().join("two")).unwrap();
    let checked = weir.command(&["config", "check"]).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success());
    for part in [
        "provider[0].keys[1].file",
        "mock#two",
        "/two cannot be read",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(OLD), "{said}");
}

#[test]
fn a_key_takes_no_more_than_its_own_limits() {
    let mock = accepting(&[OLD, NEW]);
    let weir = installation(&mock, |dir| {
        fs::write(dir.join("one"), OLD).unwrap();
        fs::write(dir.join("two"), NEW).unwrap();
        let dir = dir.display();
        format!(
            "keys = [{{ name = \"one\", file = \"{dir}/one\", weight = 9, requests_per_minute = 3 }}, \
             {{ name = \"two\", file = \"{dir}/two\" }}]"
        )
    });
    let (gateway, key) = start(&weir, "gateway");
    let begun = Instant::now();
    for _ in 0..30 {
        assert_eq!(chat(weir.gateway, &key).status, 200, "the other key serves");
    }
    let came_back = begun.elapsed().as_secs() / 20 + 1;
    let first = calls_with(&mock, OLD);
    assert!((3..=3 + came_back).contains(&first), "{first} of 30");
    let page = get(weir.gateway, "/metrics").unwrap();
    let limit = "weir_provider_limit_size{deployment=\"mock/small#one\",unit=\"requests\"} 3";
    assert!(page.contains(limit), "{page}");

    // In use while it changes: all that the second key may take is one answer of these.
    let config = fs::read_to_string(weir.config()).unwrap();
    let tight = config.replace("requests_per_minute = 3", "tokens_per_minute = 1");
    let tight = tight.replace("/two\" }", "/two\", tokens_per_minute = 1 }");
    fs::write(weir.config(), tight).unwrap();
    let refused = wait_for("both keys have used up their tokens", || {
        Ok(chat(weir.gateway, &key).status == 429)
    });
    refused.unwrap_or_else(|error| {
        let page = get(weir.gateway, "/metrics").unwrap();
        panic!("{error}\n{}\n{page}", gateway.log())
    });
    let answer = chat(weir.gateway, &key);
    assert!(answer.message().contains("used up"), "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");

    let none = config.replace("requests_per_minute = 3", "requests_per_minute = 0");
    fs::write(weir.config(), none).unwrap();
    let checked = weir.command(&["config", "check"]).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        !checked.status.success() && said.contains("nonzero"),
        "{said}"
    );
}

const OF_TEAM: &str = "sk-canary-key-that-growth-brings";

#[test]
fn a_team_that_brings_its_key_is_served_with_it_alone() {
    let mock = accepting(&[OTHER, NEW]);
    let weir = installation(&mock, |dir| {
        fs::create_dir(dir.join("teams")).unwrap();
        fs::write(dir.join("teams/growth"), OF_TEAM).unwrap();
        let dir = dir.display();
        format!("keys = [\"{OTHER}\", \"{NEW}\"]\nteam_keys = [{{ dir = \"{dir}/teams\" }}]")
    });
    weir.run(&["teams", "set", "growth", "--provider-key", "mock=growth"])
        .unwrap();
    let (up, growth) = start(&weir, "up");
    let others = weir.create_key("core").unwrap();
    weir.wait_until_known(&others).unwrap();
    weir.wait_for_store().unwrap();

    // The provider refuses the team's key: nobody else's takes its place, and nobody else suffers.
    let refused = chat(weir.gateway, &growth);
    assert_ne!(refused.status, 200, "{refused:?}");
    assert!(!refused.text().contains(OF_TEAM), "{refused:?}");
    assert!(metric(
        &weir,
        "weir_provider_key_refused{provider_key=\"mock#growth\"} 1"
    ));
    for _ in 0..10 {
        assert_eq!(chat(weir.gateway, &others).status, 200);
    }
    assert_eq!(calls_with(&mock, OTHER) + calls_with(&mock, NEW), 10);

    // Another key of the team's, which the provider takes. A write that is not atomic is one, too.
    fs::write(weir.dir().join("teams/growth"), NEW).unwrap();
    wait_for("the team's new key is in use", || {
        Ok(chat(weir.gateway, &growth).status == 200)
    })
    .unwrap();
    let tries = "SELECT count() FROM weir.attempts WHERE team = 'growth'";
    weir.wait_for_number(
        &format!("{tries} AND status = 200 AND provider_key = 'mock#growth'"),
        1,
    )
    .unwrap();
    assert_eq!(
        weir.number(&format!("{tries} AND provider_key != 'mock#growth'"))
            .unwrap(),
        0
    );

    // A name that the gateway does not know, and a key where a name belongs.
    weir.run(&["teams", "set", "core", "--provider-key", "mock=cores"])
        .unwrap();
    wait_for("the team's record is known", || {
        let answer = chat(weir.gateway, &others);
        Ok(answer.status == 503 && answer.message().contains("\"cores\" for \"mock\""))
    })
    .unwrap();
    let given = format!("mock={OF_TEAM}");
    let wrong = weir
        .command(&["teams", "set", "core", "--provider-key", &given])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("never the key itself"));
    assert!(!said.contains(OF_TEAM), "{said}");
    assert!(!up.log().contains(OF_TEAM));
}
