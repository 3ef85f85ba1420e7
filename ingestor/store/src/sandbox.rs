//! Keeping the engine to its own directory.
//!
//! Inside a program the engine does what clickhouse-local does for the person at its keyboard: SQL may
//! read and write any file, connect anywhere, and run commands. Grants and [`crate::sql`] withhold
//! the ways that are known; this has the kernel withhold all of them: after [`enter`], this process
//! and its threads reach the data directory and what the engine asks of the system, connect nowhere,
//! and start no program.
//!
//! It is Landlock, and best effort: a kernel from before 5.13 gives none of it, one from before 6.7
//! leaves the network open. What the process has open already, it keeps.

use std::path::Path;

use tracing::warn;

/// What the engine reads of the machine: memory, processors, control groups, its own memory use,
/// its own name. Not all of `/proc`: there are the environments of this user's processes.
#[cfg(target_os = "linux")]
const READ: &[&str] = &[
    "/sys",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/sys",
    "/proc/self/cgroup",
    "/proc/self/maps",
    "/proc/self/mountinfo",
    "/proc/self/mounts",
    "/proc/self/stat",
    "/proc/self/statm",
    "/proc/self/status",
    "/dev/urandom",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/usr/share/zoneinfo",
];

/// Locks this thread, and every thread that it starts from now on, into a directory.
#[cfg(target_os = "linux")]
pub(crate) fn enter(data_dir: &Path) {
    match restrict(data_dir) {
        Ok(landlock::RulesetStatus::FullyEnforced | landlock::RulesetStatus::PartiallyEnforced) => {
        }
        Ok(landlock::RulesetStatus::NotEnforced) => {
            warn!("this kernel has no Landlock: what SQL may reach is limited by grants alone");
        }
        Err(error) => {
            warn!(%error, "Landlock was refused: what SQL may reach is limited by grants alone");
        }
    }
}

#[cfg(target_os = "linux")]
fn restrict(data_dir: &Path) -> Result<landlock::RulesetStatus, landlock::RulesetError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
        path_beneath_rules,
    };
    const WANTED: ABI = ABI::V6;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules([data_dir], AccessFs::from_all(WANTED)))?
        .add_rules(path_beneath_rules(READ, read))?
        .add_rules(path_beneath_rules(
            ["/dev/null"],
            read | AccessFs::WriteFile,
        ))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Other systems have nothing of the kind that needs no privileges.
#[cfg(not(target_os = "linux"))]
pub(crate) fn enter(_data_dir: &Path) {
    warn!("there is no sandbox on this system: what SQL may reach is limited by grants alone");
}
