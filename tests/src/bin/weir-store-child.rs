//! Serves the embedded store as the program's hidden command does, for tests that need nothing else:
//! `weir-store-child DIR ADDRESS [--supervised] [--library FILE] [--host NAME]`, with the passwords `secret-of-USER`.
#![expect(clippy::print_stderr, reason = "tests read it")]

use std::process::ExitCode;

use weir_store::child::serve;
use weir_store::{ServeOptions, StorePasswords};

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("the arguments are not what the tests give");
        return ExitCode::from(2);
    };
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<ServeOptions> {
    let data_dir = arguments.next()?.into();
    let listen = arguments.next()?.parse().ok()?;
    let passwords = StorePasswords {
        reader: "secret-of-reader".to_owned(),
        operator: "secret-of-operator".to_owned(),
        weir: "secret-of-weir".to_owned(),
    };
    let mut options = ServeOptions::new(data_dir, listen, passwords);
    while let Some(flag) = arguments.next() {
        match flag.as_str() {
            "--supervised" => options.supervised = true,
            "--library" => options.library = Some(arguments.next()?.into()),
            "--host" => options.hosts.push(arguments.next()?),
            _ => return None,
        }
    }
    Some(options)
}
