//! `weir retention`: what a shorter retention deletes, and the consent to it.

use std::io::Write as _;

use anyhow::Context as _;
use weir_store::Deletion;

use crate::cli::{Cli, RetentionArgs};
use crate::command::sql::reach;
use crate::context::{runtime, settings};
use crate::output;

pub(crate) fn run(cli: &Cli, args: &RetentionArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let store = reach(&cli.data_dir, &config)?;
    let retention = config.store.retention();
    let deletions = runtime()?.block_on(async {
        if args.accept_deletion {
            store.accept_deletion(retention).await
        } else {
            store.deletions(retention).await
        }
    });
    let deletions = deletions.context("look at the retention of the tables")?;
    if args.json {
        return output::print_pretty(&deletions);
    }
    let mut out = output::stdout();
    for deletion in &deletions {
        let (now, wanted) = (kept(deletion.days_now), kept(deletion.days_wanted));
        writeln!(out, "{deletion} (kept {now}; configured: {wanted})")?;
    }
    output::note(match (deletions.is_empty(), args.accept_deletion) {
        (true, _) => "the configured retention deletes nothing beyond what is in force",
        (false, false) => "not in force: `weir retention --accept-deletion` deletes these",
        (false, true) => "in force: the store deletes these within hours",
    });
    Ok(())
}

fn kept(days: u32) -> String {
    match days {
        0 => "for good".to_owned(),
        days => format!("{days} days"),
    }
}

/// All of them in one line.
pub(super) fn in_words(deletions: &[Deletion]) -> String {
    let words: Vec<_> = deletions.iter().map(ToString::to_string).collect();
    words.join("; ")
}
