//! Who uses the service: they log in, keep their tokens, and show them to every pod.

use k8s_openapi::jiff::Timestamp;

use super::{Application, Process, server::Token};

/// The tokens held, one for each key, issuer and audience: the one that is good for longest.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    tokens: Vec<Token>,
    /// Keys whose tokens may be refused.
    ended_keys: Vec<String>,
    /// Issuer and audience of the tokens that are taken; any, where this is absent.
    names: Option<(String, Option<String>)>,
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

    /// Tokens of these keys may be refused from now on: whoever holds them was told so. Pods that still
    /// sign with them are not asked any more.
    pub fn give_up_keys(&mut self, keys: Vec<String>) {
        self.ended_keys.extend(keys);
        self.tokens.retain(|token| !self.ended_keys.contains(&token.key_id));
    }

    /// So may those of another issuer or for another audience.
    pub fn give_up_other_names(&mut self, issuer: String, audience: Option<String>) {
        self.tokens.retain(|token| token.issuer == issuer && token.audience == audience);
        self.names = Some((issuer, audience));
    }

    fn given_up(&self, token: &Token) -> bool {
        let other_names = |(issuer, audience): &(String, Option<String>)| {
            token.issuer != *issuer || token.audience != *audience
        };
        self.ended_keys.contains(&token.key_id) || self.names.as_ref().is_some_and(other_names)
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
        let servers: Vec<_> = ready
            .iter()
            .filter_map(|(pod, uid)| match processes.get(uid) {
                Some(Process::Server(server)) => Some((pod, server, server.sign(now)?)),
                _ => None,
            })
            .filter(|(.., token)| !clients.given_up(token))
            .collect();
        for (_, server, token) in &servers {
            if matches!(server.seen, Some(Ok(_))) {
                clients.keep(token.clone());
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
