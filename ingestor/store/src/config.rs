//! The engine's own configuration, written before it starts.
//!
//! It sets how much memory the engine may take, where it logs, and what its one user may do. That
//! user may use tables; it may not reach files, other servers or programs through SQL: the engine
//! has the rights of its process, and every client that may query it would have them too. What the
//! read-only users may do is less ([`crate::users`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::caps::{READ_MEMORY_PARTS, READ_SPILL_BYTES_MAX, STATEMENT_TIME_MAX};

/// Settings that bound a read-only statement: it may lower a few of them, and change none of the others.
const LIMITS: [&str; 20] = [
    "max_memory_usage",
    "max_execution_time",
    "max_threads",
    "readonly",
    "log_comment",
    "max_result_bytes",
    "max_untracked_memory",
    "memory_overcommit_ratio_denominator",
    "memory_overcommit_ratio_denominator_for_user",
    "max_temporary_data_on_disk_size_for_query",
    "timeout_overflow_mode",
    "max_query_size",
    "max_parser_depth",
    "max_parser_backtracks",
    "max_ast_depth",
    "max_ast_elements",
    "max_expanded_ast_elements",
    "max_subquery_depth",
    "allow_introspection_functions",
    "use_query_cache",
];

/// Settings and their values.
pub(crate) type ReaderLimits = [(&'static str, u64); 5];

/// What a read-only statement begins with. The engine takes no values from a profile that is chosen later,
/// only limits.
pub(crate) fn reader_limits(engine_bytes: u64) -> ReaderLimits {
    let memory_bytes = engine_bytes / READ_MEMORY_PARTS;
    let spill_bytes = memory_bytes / 2;
    [
        ("max_memory_usage", memory_bytes),
        ("max_bytes_before_external_group_by", spill_bytes),
        ("max_bytes_before_external_sort", spill_bytes),
        (
            "max_temporary_data_on_disk_size_for_query",
            READ_SPILL_BYTES_MAX,
        ),
        ("max_execution_time", STATEMENT_TIME_MAX.as_secs()),
    ]
}

/// The limits of the profile `reader`. 0 means none in most, so nothing may be set to it.
fn reader_constraints(engine_bytes: u64) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let highest = |name: &str| match name {
        "max_memory_usage" => Some(engine_bytes / READ_MEMORY_PARTS),
        "max_execution_time" => Some(STATEMENT_TIME_MAX.as_secs()),
        "max_threads" => Some(cores as u64),
        _ => None,
    };
    let constraint = |name: &&str| match highest(name) {
        Some(most) => format!("<{name}><min>1</min><max>{most}</max></{name}>"),
        None => format!("<{name}><const/></{name}>"),
    };
    // The engine has a rule of its own for this one.
    let ours = LIMITS.iter().filter(|name| **name != "readonly");
    ours.map(constraint).collect()
}

/// Memory that the engine may take in all: half of the machine's, or of the container's.
pub(crate) fn memory_for_engine() -> u64 {
    let memory_bytes = memory_of_this_machine().unwrap_or(4 << 30);
    (memory_bytes / 2).max(512 << 20)
}

/// The smaller of what the machine has and what the control group allows.
fn memory_of_this_machine() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = meminfo.lines();
    let total = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes = total.trim().strip_suffix(" kB")?.trim();
    let total = kilobytes.parse::<u64>().ok()? << 10;
    let allowed = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let allowed = allowed.and_then(|text| text.trim().parse::<u64>().ok());
    Some(allowed.map_or(total, |allowed| allowed.min(total)))
}

/// Writes the engine's configuration into a directory and says where it is.
pub(crate) fn write(directory: &Path, log: &Path, memory_bytes: u64) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let users = directory.join("users.xml");
    fs::write(&users, users_xml(memory_bytes))?;
    let config = directory.join("config.xml");
    fs::write(&config, config_xml(&users, log, memory_bytes))?;
    Ok(config)
}

fn config_xml(users: &Path, log: &Path, memory: u64) -> String {
    let users = escaped(&users.to_string_lossy());
    let log = escaped(&log.to_string_lossy());
    // Caches are bounded by a tenth of the memory, and merges by two threads: the engine is a guest
    // on a machine that has other work.
    let mark_cache = memory / 10;
    format!(
        "<!-- Written by weir at every start: changes are lost. -->
<clickhouse>
    <log-level>warning</log-level>
    <logger>
        <level>warning</level>
        <log>{log}</log>
        <size>10M</size>
        <count>3</count>
    </logger>
    <users_config>{users}</users_config>
    <max_server_memory_usage>{memory}</max_server_memory_usage>
    <max_server_memory_usage_to_ram_ratio>1</max_server_memory_usage_to_ram_ratio>
    <mark_cache_size>{mark_cache}</mark_cache_size>
    <background_pool_size>2</background_pool_size>
    <background_schedule_pool_size>8</background_schedule_pool_size>
</clickhouse>
"
    )
}

fn users_xml(memory: u64) -> String {
    let query_memory = memory / 10 * 8;
    let spill = memory / 10 * 4;
    let seconds = STATEMENT_TIME_MAX.as_secs();
    let constraints = reader_constraints(memory);
    // Withheld above all: SYSTEM SHUTDOWN and SYSTEM KILL, which signal the whole process group, and
    // CREATE DICTIONARY, which can have any command as its source.
    format!(
        "<!-- Written by weir at every start: changes are lost. -->
<clickhouse>
    <profiles>
        <default>
            <max_memory_usage>{query_memory}</max_memory_usage>
            <max_bytes_before_external_group_by>{spill}</max_bytes_before_external_group_by>
            <max_bytes_before_external_sort>{spill}</max_bytes_before_external_sort>
            <max_execution_time>{seconds}</max_execution_time>
            <async_insert>0</async_insert>
            <implicit_select>0</implicit_select>
            <allow_introspection_functions>0</allow_introspection_functions>
        </default>
        <reader>
            <constraints>{constraints}</constraints>
        </reader>
    </profiles>
    <quotas><default></default></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>
                <query>GRANT SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, CREATE FUNCTION, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY ON *.*</query>
                <query>GRANT SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM DROP CACHE, SYSTEM FLUSH, SYSTEM VIEWS ON *.*</query>
            </grants>
        </default>
    </users>
</clickhouse>
"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_markup_stays_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("a <b> & c");
        let config = fs::read_to_string(write(&odd, &odd.join("log"), 1 << 30).unwrap()).unwrap();
        assert!(
            config.contains("a &lt;b&gt; &amp; c/users.xml</users_config>"),
            "{config}"
        );
        assert!(
            config.contains("<max_server_memory_usage>1073741824<"),
            "{config}"
        );
        let users = fs::read_to_string(odd.join("users.xml")).unwrap();
        assert!(users.contains("<max_execution_time>300<"), "{users}");
    }

    #[test]
    fn this_machines_memory_is_known() {
        assert!(memory_of_this_machine().is_some_and(|bytes| bytes > 64 << 20));
    }
}
