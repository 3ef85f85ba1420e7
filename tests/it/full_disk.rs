//! A disk that fills up under a whole gateway: answers stop, and none that was whole is lost.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{chat_request, config};
use weir_tests::http::Answer;
use weir_tests::weir::{Installation, wait_for};

/// Requests that would need many times what is left of the disk.
const REQUESTS_MAX: usize = 2_000;

#[test]
fn a_full_disk_stops_answers_and_loses_none() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let key = weir.create_key("growth").unwrap();
    let journal = weir.data_dir().join("journal");
    fs::create_dir_all(&journal).unwrap();
    let Some(disk) = SmallDisk::mount(journal) else {
        println!("left out: this machine lets us mount no tmpfs");
        return;
    };
    let gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_until_known(&key).unwrap();

    let ballast = disk.fill();
    let mut whole = Vec::new();
    let refused = (0..REQUESTS_MAX).find_map(|_| match ask(&weir, &key) {
        Ok(id) => {
            whole.push(id);
            None
        }
        Err(said) => Some(said),
    });
    assert!(refused.is_some(), "{} answers on a full disk", whole.len());
    // The first one may have begun; whoever comes then is told at the door.
    let refused = wait_for("a refusal", || {
        let answer = ask(&weir, &key);
        let refusal = answer.err().flatten();
        Ok(refusal.is_some_and(|it| it.status == 503 && it.text().contains("cannot be recorded")))
    });
    refused.unwrap();
    wait_for("the log says why", || {
        Ok(gateway.log().contains("No space left on device"))
    })
    .unwrap();
    fs::remove_file(ballast).unwrap();
    wait_for("it serves again", || {
        let answer = ask(&weir, &key);
        Ok(answer.is_ok_and(|id| {
            whole.push(id);
            true
        }))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", gateway.log()));
    drop(gateway);

    let _up = weir.start(&["up"]).unwrap();
    weir.wait_for_store().unwrap();
    let ids = whole.iter().map(|id| format!("'{id}'"));
    let ids = ids.collect::<Vec<_>>().join(", ");
    let stored = format!("SELECT count() FROM weir.requests WHERE request_id IN ({ids})");
    weir.wait_for_number(&stored, whole.len() as u64).unwrap();
    let said = weir.command(&["audit", "verify"]).output().unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stdout)
    );
}

/// The id of a whole answer, or what came instead of one, if anything.
fn ask(weir: &Installation, key: &str) -> Result<String, Option<Answer>> {
    let answer = chat_request(key, "fast-chat").send(weir.gateway);
    let answer = answer.map_err(|_| None)?;
    match answer.header("x-request-id") {
        Some(id) if answer.status == 200 && answer.is_complete => Ok(id.to_owned()),
        _ => Err(Some(answer)),
    }
}

/// A file system of eight megabytes, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "weir"])
            .arg(&at);
        let done = mount.output().ok()?.status.success();
        done.then_some(Self(at))
    }

    /// Leaves room for a few dozen events. Returns the file that takes the rest.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = File::create(&ballast).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        let len = file.metadata().unwrap().len();
        file.set_len(len - 64 * 1_024).unwrap();
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
