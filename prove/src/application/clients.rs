//! Who uses the service: they log in, keep their tokens, and show them to every pod.

use k8s_openapi::jiff::Timestamp;

use super::{Application, Process, server::Token};

/// The tokens held, one for each key, issuer and audience: the one that is good for longest.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    tokens: Vec<Token>,
    given_up: Vec<Token>,
    ended_keys: Vec<String>,
    /// What went wrong for them.
    pub complaints: Vec<String>,
}

impl Clients {
    fn keep(&mut self, token: Token) {
        match self.tokens.iter_mut().find(|held| held.is_alike(&token)) {
            Some(held) => held.expires = held.expires.max(token.expires),
            None => self.tokens.push(token),
        }
    }

    /// Tokens that may be refused from now on: whoever holds them was told so. Pods that still issue such
    /// tokens are not asked any more.
    pub fn give_up(&mut self, given_up: impl Fn(&Token) -> bool) {
        self.given_up.extend(self.tokens.extract_if(.., |token| given_up(token)));
    }

    /// Tokens of these keys may be refused from now on.
    pub fn give_up_keys(&mut self, keys: Vec<String>) {
        self.give_up(|token| keys.contains(&token.key_id));
        self.ended_keys.extend(keys);
    }

    fn given_up(&self, token: &Token) -> bool {
        self.ended_keys.contains(&token.key_id)
            || self.given_up.iter().any(|given_up| given_up.is_alike(token))
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
        let servers = ready.iter().filter_map(|(pod, uid)| match processes.get(uid) {
            Some(Process::Server(server)) => Some((pod, server, server.sign(now))),
            _ => None,
        });
        let servers: Vec<_> = servers
            .filter(|(.., token)| token.as_ref().is_none_or(|token| !clients.given_up(token)))
            .collect();
        for (_, server, token) in &servers {
            if let Some(token) = token.clone().filter(|_| matches!(server.seen, Some(Ok(_)))) {
                clients.keep(token);
            }
        }
        clients.tokens.retain(|token| token.expires > now);
        for (pod, server, _) in servers {
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
