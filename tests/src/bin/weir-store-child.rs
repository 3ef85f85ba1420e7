//! Serves the embedded store as the program's hidden command does, for tests that need nothing else:
//! `weir-store-child DIR ADDRESS [--supervised] [--library FILE] [--password PASSWORD]`.
#![expect(clippy::print_stderr, reason = "tests read it")]

use std::process::ExitCode;

use weir_store::Credentials;
use weir_store::ServeOptions;
use weir_store::child::serve;

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
    let mut options = ServeOptions::new(data_dir, listen);
    while let Some(flag) = arguments.next() {
        match flag.as_str() {
            "--supervised" => options.supervised = true,
            "--library" => options.library = Some(arguments.next()?.into()),
            "--password" => {
                let (user, password) = ("weir".to_owned(), arguments.next()?);
                options.credentials = Some(Credentials { user, password });
            }
            _ => return None,
        }
    }
    Some(options)
}
