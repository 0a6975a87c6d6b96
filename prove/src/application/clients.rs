//! Who uses the service: they log in, keep their tokens, and show them to every pod.

use k8s_openapi::jiff::Timestamp;

use super::{Application, Process, server::Token};

/// The tokens held, one for each key, issuer and audience: the one that is good for longest.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    tokens: Vec<Token>,
    /// What went wrong for them.
    pub complaints: Vec<String>,
}

impl Clients {
    fn keep(&mut self, token: Token) {
        let same = |held: &&mut Token| {
            (&held.key_id, &held.key, &held.issuer, &held.audience)
                == (&token.key_id, &token.key, &token.issuer, &token.audience)
        };
        match self.tokens.iter_mut().find(same) {
            Some(held) => held.expires = held.expires.max(token.expires),
            None => self.tokens.push(token),
        }
    }

    /// Tokens that may be refused from now on: whoever holds them was told so.
    pub fn give_up(&mut self, given_up: impl Fn(&Token) -> bool) {
        self.tokens.retain(|token| !given_up(token));
    }

    /// The tokens held.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }
}

impl Application {
    /// Logs in at each of these pods, and shows every token to each of them.
    pub fn use_service(&mut self, ready: &[(String, String)], now: Timestamp) {
        let Self { processes, clients, .. } = self;
        let servers = || {
            ready.iter().filter_map(|(pod, uid)| match processes.get(uid) {
                Some(Process::Server(server)) => Some((pod, server)),
                _ => None,
            })
        };
        for (_, server) in servers() {
            if let Some(token) = server.sign(now).filter(|_| matches!(server.seen, Some(Ok(_)))) {
                clients.keep(token);
            }
        }
        clients.tokens.retain(|token| token.expires > now);
        for (pod, server) in servers() {
            for token in &clients.tokens {
                if let Some(why) = server.refuses(token) {
                    let complaint = format!("{pod} refuses a token that another pod issued: {why}");
                    if !clients.complaints.contains(&complaint) {
                        clients.complaints.push(complaint);
                    }
                }
            }
        }
    }
}
