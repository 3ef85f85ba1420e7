//! `weir store`: runs the embedded store, or says how to connect to it.

use std::io::Write as _;

use anyhow::bail;
use serde_json::json;
use weir_schemas::clickhouse::DATABASE;

use crate::cli::{Cli, StoreArgs, StoreCommand, StoreUserArgs};
use crate::command::serve;
use crate::config::StoreKind;
use crate::context::settings;
use crate::output;
use crate::store_passwords;

pub(crate) fn run(cli: &Cli, args: &StoreArgs) -> anyhow::Result<()> {
    match &args.command {
        None => serve::store(cli, args.supervised),
        Some(StoreCommand::User(args)) => user(cli, args),
    }
}

fn user(cli: &Cli, args: &StoreUserArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let url = config.store.url();
    if config.store.kind == StoreKind::Clickhouse {
        bail!("[store] kind is \"clickhouse\": the users of {url} are made and kept there");
    }
    let path = store_passwords::path(&cli.data_dir, args.user);
    // Also where it is not shown: a file that is not there would be no help.
    let password = store_passwords::read(&cli.data_dir, args.user)?;
    let name = args.user.name();
    let file = path.display().to_string();
    let shown = args.show_password.then_some(password);
    if args.json {
        let mut said = json!({
            "url": url, "database": DATABASE, "user": name, "password_file": file,
        });
        if let Some(password) = shown {
            said["password"] = password.into();
        }
        return output::print_pretty(&said);
    }
    let rights = if args.user.may_write() {
        "reads, writes and changes tables"
    } else {
        "reads"
    };
    let password = shown.unwrap_or_else(|| format!("in {file} (--show-password prints it)"));
    writeln!(
        output::stdout(),
        "address    {url} (ClickHouse over HTTP)\n\
         database   {DATABASE}\n\
         user       {name} ({rights})\n\
         password   {password}"
    )?;
    Ok(())
}
