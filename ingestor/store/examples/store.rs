//! Serves the embedded engine: `store DIR ADDRESS [--supervised]`.

use std::process::ExitCode;

use weir_store::ServeOptions;
use weir_store::child::serve;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (data_dir, listen, supervised) = match &arguments[..] {
        [data_dir, listen] => (data_dir, listen, false),
        [data_dir, listen, flag] if flag == "--supervised" => (data_dir, listen, true),
        _ => {
            eprintln!("usage: store DIR ADDRESS [--supervised]");
            return ExitCode::from(2);
        }
    };
    let Ok(listen) = listen.parse() else {
        eprintln!("{listen} is not an address such as 127.0.0.1:8123");
        return ExitCode::from(2);
    };
    let options = ServeOptions {
        supervised,
        ..ServeOptions::new(data_dir.into(), listen)
    };
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n{}", error.how_to_mend());
            ExitCode::FAILURE
        }
    }
}
