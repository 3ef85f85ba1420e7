//! What keeps a request on one target: whom it is for, and how its prompt begins.

use memchr::memmem;
use weir_dialects::ClientRequest;

use crate::setup::config::StickyConfig;
use crate::setup::directory::Habits;
use weir_governance::control::Identity;

/// Names a session of a user's, for splits that stay with it.
const SESSION: &str = "x-session-id";
/// Providers cache prompts from about a thousand tokens on; what is shorter has no beginning worth
/// keeping together.
const PREFIX_BYTES: usize = 4 * 1024;
/// Settings of a request behind which its prompt begins.
const PROMPTS: [&[u8]; 5] = [
    b"\"system\":",
    b"\"instructions\":",
    b"\"messages\":",
    b"\"input\":",
    b"\"contents\":",
];

/// Hashes that routing compares, as far as the alias looks at them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Affinity {
    pub(crate) sticky: Option<u64>,
    pub(crate) prefix: Option<u64>,
}

impl Affinity {
    pub(crate) fn of(habits: Habits, request: &ClientRequest<'_>, identity: &Identity) -> Self {
        let user = || {
            let named = request.facts.user.as_deref().or_else(|| identity.user());
            hash(named.unwrap_or_else(|| identity.key_id()))
        };
        let session = || {
            let named = request.headers.get(SESSION)?.to_str().ok()?;
            Some(hash(named))
        };
        Self {
            sticky: match habits.sticky {
                StickyConfig::Nothing => None,
                StickyConfig::User => Some(user()),
                StickyConfig::Session => Some(session().unwrap_or_else(user)),
            },
            prefix: habits
                .prefix_affinity
                .then(|| prefix(request.body))
                .flatten(),
        }
    }
}

/// The same beginning gives the same number. It is looked for, not parsed: a wrong guess only costs
/// a cached prompt.
fn prefix(body: &[u8]) -> Option<u64> {
    let begins = PROMPTS.iter().filter_map(|name| memmem::find(body, name));
    let begins = begins.min()?;
    let prefix = body.get(begins..begins + PREFIX_BYTES)?;
    Some(u64::from(crc32c::crc32c(prefix)))
}

/// The same user gets the same number, in this process and in the next.
fn hash(text: &str) -> u64 {
    // FNV-1a: stable over versions of the standard library, and good enough to spread users.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(model: &str, system: &str, question: &str) -> Vec<u8> {
        format!(
            r#"{{"model":"{model}","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{question}"}}]}}"#
        )
        .into_bytes()
    }

    #[test]
    fn prompts_that_begin_alike_have_the_same_prefix() {
        let system = "You are a lawyer. ".repeat(300);
        let one = prefix(&body("fast", &system, "May I?")).unwrap();
        assert_eq!(prefix(&body("fast-chat", &system, "Must I?")), Some(one));
        let other = "You are a baker. ".repeat(300);
        assert_ne!(prefix(&body("fast", &other, "May I?")), Some(one));
    }

    #[test]
    fn a_short_prompt_has_no_prefix() {
        assert_eq!(prefix(&body("fast", "Be brief.", "May I?")), None);
        assert_eq!(prefix(b"{}"), None);
    }
}
