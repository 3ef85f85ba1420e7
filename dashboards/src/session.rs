//! Who is signed in. A session stands for an admin token, which stays in this process's memory: the
//! browser has a cookie, and a word that each change must show beside it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use crate::caps::{
    ADDRESSES_MAX, FAILED_SIGN_INS_MAX, SESSIONS_MAX, SIGN_IN_WINDOW, TOKEN_CHECKED_FOR,
};
use crate::error::ConsoleError;
use crate::gateway::{GatewayClient, TokenHolder};

/// The header that shows that a change comes from the console's own page.
pub(crate) const CSRF_HEADER: &str = "x-weir-csrf";

/// One call's session, as it was when the call came.
#[derive(Clone)]
pub(crate) struct SignedIn {
    id: Arc<str>,
    pub(crate) token: Arc<str>,
    pub(crate) holder: Arc<TokenHolder>,
    csrf: Arc<str>,
    ends: Timestamp,
}

struct OpenSession {
    signed_in: SignedIn,
    ends: Instant,
    /// When the gateway was last asked about the token.
    checked: Instant,
}

/// All sessions.
pub(crate) struct SessionBook {
    open: Mutex<HashMap<Arc<str>, OpenSession>>,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
    lasting: Duration,
    /// Its name holds the port: browsers do not tell ports apart.
    cookie: String,
}

impl SignedIn {
    /// What the page is told of it.
    pub(crate) fn public(&self) -> Value {
        json!({
            "name": self.holder.name,
            "role": self.holder.role.as_str(),
            "team": self.holder.team,
            "expires": self.ends.to_string(),
            "csrf": &*self.csrf,
        })
    }
}

impl SessionBook {
    pub(crate) fn new(lasting: Duration, port: u16) -> Self {
        Self {
            open: Mutex::default(),
            failures: Mutex::default(),
            lasting,
            cookie: format!("weir_console_{port}"),
        }
    }

    /// Opens a session for a token that the gateway knows.
    pub(crate) async fn sign_in(
        &self,
        gateway: &GatewayClient,
        token: &str,
        from: IpAddr,
    ) -> Result<SignedIn, ConsoleError> {
        let from = counted(from);
        if self.failed(from) >= FAILED_SIGN_INS_MAX {
            let message = "too many failed sign-ins from this address; try again in a minute";
            return Err(ConsoleError::too_many(message));
        }
        match gateway.holder(token).await? {
            Some(holder) => self.open(token, holder),
            None => {
                self.count_failure(from);
                let message =
                    "the token is unknown, revoked or expired; `weir tokens create` makes one";
                Err(ConsoleError::not_signed_in(message))
            }
        }
    }

    fn open(&self, token: &str, holder: TokenHolder) -> Result<SignedIn, ConsoleError> {
        let now = Instant::now();
        let lasting = SignedDuration::try_from(self.lasting).unwrap_or_default();
        let signed_in = SignedIn {
            id: random_word()?,
            token: token.into(),
            holder: Arc::new(holder),
            csrf: random_word()?,
            ends: now_utc().saturating_add(lasting).unwrap_or_default(),
        };
        let session = OpenSession {
            signed_in: signed_in.clone(),
            ends: now + self.lasting,
            checked: now,
        };
        let mut open = self.open.lock();
        open.retain(|_, session| session.ends > now);
        if open.len() >= SESSIONS_MAX {
            let first = open.iter().min_by_key(|(_, session)| session.ends);
            let first = first.map(|(id, _)| id.clone());
            first.and_then(|id| open.remove(&id));
        }
        open.insert(signed_in.id.clone(), session);
        Ok(signed_in)
    }

    /// The session of a call. One that changes something must show the session's word.
    pub(crate) async fn of_call(
        &self,
        gateway: &GatewayClient,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<SignedIn, ConsoleError> {
        let signed_out = || ConsoleError::not_signed_in("sign in with an admin token");
        let id = self.cookie_in(headers).ok_or_else(signed_out)?;
        let (signed_in, is_to_be_checked) = self.find(id).ok_or_else(signed_out)?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let shown = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes);
            if shown != Some(signed_in.csrf.as_bytes()) {
                let message = format!("send the session's csrf value in the header {CSRF_HEADER}");
                return Err(ConsoleError::denied(message));
            }
        }
        if is_to_be_checked {
            return self.check(gateway, signed_in).await;
        }
        Ok(signed_in)
    }

    /// A session, and whether this call is the one that asks the gateway about its token.
    fn find(&self, id: &str) -> Option<(SignedIn, bool)> {
        let now = Instant::now();
        let mut open = self.open.lock();
        if open.get(id)?.ends <= now {
            open.remove(id);
            return None;
        }
        let session = open.get_mut(id)?;
        let is_to_be_checked = now.duration_since(session.checked) > TOKEN_CHECKED_FOR;
        if is_to_be_checked {
            session.checked = now;
        }
        Some((session.signed_in.clone(), is_to_be_checked))
    }

    /// Asks the gateway again. While it is away nobody can revoke a token, and what was said last holds.
    async fn check(
        &self,
        gateway: &GatewayClient,
        mut signed_in: SignedIn,
    ) -> Result<SignedIn, ConsoleError> {
        match gateway.holder(&signed_in.token).await {
            Ok(Some(holder)) => {
                signed_in.holder = Arc::new(holder);
                if let Some(session) = self.open.lock().get_mut(&signed_in.id) {
                    session.signed_in.holder = signed_in.holder.clone();
                }
                Ok(signed_in)
            }
            Ok(None) => {
                self.end(&signed_in);
                Err(ConsoleError::not_signed_in(
                    "the token was revoked or has expired",
                ))
            }
            Err(_) => Ok(signed_in),
        }
    }

    /// Whether a session goes on as it was when the call came that still is answered.
    pub(crate) async fn is_still(&self, gateway: &GatewayClient, then: &SignedIn) -> bool {
        match self.find(&then.id) {
            None => false,
            Some((now, false)) => now.holder == then.holder,
            Some((now, true)) => match self.check(gateway, now).await {
                Ok(now) => now.holder == then.holder,
                Err(_) => false,
            },
        }
    }

    pub(crate) fn end(&self, signed_in: &SignedIn) {
        self.open.lock().remove(&signed_in.id);
    }

    fn cookie_in<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(COOKIE).into_iter();
        let pairs = lines.filter_map(|line| line.to_str().ok());
        let mut pairs = pairs.flat_map(|line| line.split(';'));
        pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie).then_some(value)
        })
    }

    /// The cookie of a session; `None` takes it away.
    pub(crate) fn set_cookie(&self, signed_in: Option<&SignedIn>, is_https: bool) -> HeaderValue {
        let (id, seconds) = match signed_in {
            Some(signed_in) => (&*signed_in.id, self.lasting.as_secs()),
            None => ("", 0),
        };
        let name = &self.cookie;
        let secure = if is_https { "; Secure" } else { "" };
        let cookie =
            format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(cookie).unwrap_or(HeaderValue::from_static(""))
    }

    fn failed(&self, from: IpAddr) -> u32 {
        let failures = self.failures.lock();
        let counted = failures.get(&from);
        let counted = counted.filter(|(since, _)| since.elapsed() < SIGN_IN_WINDOW);
        counted.map_or(0, |(_, count)| *count)
    }

    fn count_failure(&self, from: IpAddr) {
        let now = Instant::now();
        let mut failures = self.failures.lock();
        failures.retain(|_, (since, _)| now.duration_since(*since) < SIGN_IN_WINDOW);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&from) {
            let oldest = failures.iter().min_by_key(|(_, (since, _))| *since);
            let oldest = oldest.map(|(address, _)| *address);
            oldest.and_then(|address| failures.remove(&address));
        }
        failures.entry(from).or_insert((now, 0)).1 += 1;
    }
}

/// Of IPv6 the network of 64 bits, which one host has for itself.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address => address,
    }
}

/// 256 random bits.
fn random_word() -> Result<Arc<str>, ConsoleError> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| ConsoleError::internal("the system gives no random numbers"))?;
    Ok(BASE64URL_NOPAD.encode(&bytes).into())
}

pub(crate) fn now_utc() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::TokenRole;

    fn opened(book: &SessionBook) -> SignedIn {
        let holder = TokenHolder {
            name: "ada".to_owned(),
            role: TokenRole::Admin,
            team: None,
        };
        book.open("token", holder).unwrap()
    }

    #[test]
    fn a_session_ends_when_its_time_is_over() {
        let book = SessionBook::new(Duration::from_secs(60), 8090);
        assert!(book.find(&opened(&book).id).is_some());
        let over = SessionBook::new(Duration::ZERO, 8090);
        assert!(over.find(&opened(&over).id).is_none());
        assert!(over.open.lock().is_empty());
    }

    #[test]
    fn sessions_and_counted_addresses_are_bounded() {
        let book = SessionBook::new(Duration::from_secs(60), 8090);
        let first = opened(&book);
        for _ in 0..SESSIONS_MAX {
            opened(&book);
        }
        assert_eq!(book.open.lock().len(), SESSIONS_MAX);
        assert!(book.find(&first.id).is_none());
        for number in 0..2_000_u32 {
            book.count_failure(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(book.failures.lock().len(), ADDRESSES_MAX);
        let home: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!(counted(home), counted(same));
    }
}
