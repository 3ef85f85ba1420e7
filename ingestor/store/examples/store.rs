//! Serves the embedded engine on a directory and a port: `store DIR ADDRESS`.

use std::process::ExitCode;

use weir_store::child::{ServeOptions, serve};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(data_dir), Some(Ok(listen))) = (
        arguments.next(),
        arguments.next().map(|address| address.parse()),
    ) else {
        eprintln!("usage: store DIR ADDRESS");
        return ExitCode::from(2);
    };
    match serve(&ServeOptions::new(data_dir.into(), listen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n{}", error.mend());
            ExitCode::FAILURE
        }
    }
}
