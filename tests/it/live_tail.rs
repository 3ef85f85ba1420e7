//! `weir tail`: each request once, sampled when there are many, whatever becomes of the store.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde_json::Value;
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{chat_request, config};
use weir_tests::weir::{Installation, wait_for};

/// A running `weir tail`.
struct Watch {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Watch {
    fn start(weir: &Installation, args: &[&str]) -> Self {
        let mut command = weir.command(&[&["tail"], args].concat());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, lines) = follow(child.stdout.take().unwrap());
        let (err, said) = follow(child.stderr.take().unwrap());
        Self {
            child,
            lines,
            said,
            readers: vec![out, err],
        }
    }

    fn wait_for_lines(&self, count: usize) -> Vec<String> {
        wait_for("the lines are printed", || {
            Ok(self.lines.lock().len() >= count)
        })
        .unwrap();
        self.lines.lock().clone()
    }

    fn wait_until_said(&self, text: &str) {
        let is_said = || Ok(self.said.lock().iter().any(|line| line.contains(text)));
        wait_for(text, is_said).unwrap_or_else(|error| panic!("{error}: {:?}", self.said.lock()));
    }

    /// Ctrl-C. Returns all lines.
    fn stop(mut self) -> Vec<String> {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status();
        assert!(sent.unwrap().success());
        assert!(self.child.wait().unwrap().success());
        for reader in self.readers {
            reader.join().unwrap();
        }
        std::mem::take(&mut *self.lines.lock())
    }
}

fn follow(from: impl Read + Send + 'static) -> (JoinHandle<()>, Arc<Mutex<Vec<String>>>) {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = lines.clone();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            told.lock().push(line.unwrap());
        }
    });
    (reader, lines)
}

fn ids(lines: &[String]) -> Vec<String> {
    let row = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let id = |row: Value| row["request_id"].as_str().unwrap().to_owned();
    let mut ids: Vec<String> = lines.iter().map(row).map(id).collect();
    ids.sort();
    ids
}

#[test]
fn tail_shows_each_request_once_and_says_what_it_leaves_out() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let gateway = weir.start(&["gateway"]).unwrap();
    let ingestor = weir.start(&["ingestor"]).unwrap();
    weir.wait_until_ready().unwrap();
    let growth = weir.create_key("growth").unwrap();
    let support = weir.create_key("support").unwrap();
    weir.wait_until_known(&support).unwrap();
    weir.wait_for_store().unwrap();
    let call = |key: &str, model: &str| {
        let answer = chat_request(key, model).send(weir.gateway).unwrap();
        answer.request_id().to_owned()
    };
    let mut all = vec![call(&growth, "fast-chat")];
    weir.wait_for_number("SELECT count() FROM weir.requests", 1)
        .unwrap();

    let everything = Watch::start(&weir, &["--json"]);
    let failed = Watch::start(
        &weir,
        &["--team", "support", "--status", "error", "--newest", "0"],
    );
    // What was there when it began; and the other has begun, too.
    assert_eq!(ids(&everything.wait_for_lines(1)), all);
    failed.wait_for_lines(1);
    let mut wrong = String::new();
    for _ in 0..3 {
        all.push(call(&growth, "fast-chat"));
        all.push(call(&support, "fast-chat"));
        call(&growth, "no-such-model");
        wrong = call(&support, "no-such-model");
    }
    let lines = everything.wait_for_lines(13);
    let shown: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (&shown["team"], &shown["alias"]),
        (&"growth".into(), &"fast-chat".into())
    );
    assert_eq!(
        (&shown["status"], &shown["attempts"]),
        (&200.into(), &1.into())
    );
    assert!(shown["total_ms"].as_f64().unwrap() > 0.0, "{shown}");
    let lines = failed.wait_for_lines(4);
    assert!(lines[0].starts_with("time\tstatus\tteam/user"), "{lines:?}");
    for line in &lines[1..] {
        assert!(
            line.contains("\t404 model_not_found\tsupport\tno-such-model\t"),
            "{line}"
        );
    }

    // Many at once are counted and sampled; a call that took long is seen, too.
    let stored = |first: u64, count: u64, seconds: u64| {
        let sql = format!(
            "INSERT INTO weir.requests (stream, seq, ts, request_id, team, total_us, status) \
             SELECT toUUID('00000000-0000-0000-0000-000000000001'), {first} + number, \
             now64(6) - INTERVAL {seconds} SECOND, generateUUIDv7(), 'growth', \
             {seconds} * 1000000, 200 FROM numbers({count})"
        );
        weir.run(&["sql", "--write", &sql]).unwrap();
    };
    stored(1, 250, 1);
    everything.wait_until_said("250 requests in ");
    everything.wait_until_said(": one in 3 is shown");
    assert_eq!(everything.wait_for_lines(113).len(), 113);
    stored(251, 1, 400);
    everything.wait_for_lines(114);

    ingestor.stop().unwrap();
    everything.wait_until_said("the store is away");
    let ingestor = weir.start(&["ingestor"]).unwrap();
    everything.wait_until_said("the store is back");
    all.push(call(&growth, "fast-chat"));
    let lines = everything.wait_for_lines(115);
    assert!(lines[114].contains(all.last().unwrap()), "{lines:?}");
    let seen = ids(&everything.stop());
    assert_eq!(seen.len(), 115, "nothing is shown twice");
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(all.iter().chain([&wrong]).all(|id| seen.contains(id)));
    assert_eq!(failed.stop().len(), 4);
    ingestor.stop().unwrap();
    gateway.stop().unwrap();
}
