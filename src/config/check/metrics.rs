//! `[metrics]`: what the settings mean, and the files they name.

use super::Checks;
use crate::config::Config;
use crate::delivery::config::Problem;
use crate::metrics::EVERY_S;
use std::net::SocketAddr;

impl Checks<'_> {
    pub(super) fn metrics(&mut self, config: &Config) {
        let Some(metrics) = &config.metrics else { return };
        let spoilt = self.scene.places.is_spoilt("metrics");
        if let Some(listen) = &metrics.listen
            && !listen.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0)
        {
            let hint = "write an address and port, such as \"127.0.0.1:9464\"";
            self.say("metrics.listen", format!("`{listen}` is no address to listen on"), hint);
        }
        let mut problems = Vec::new();
        match metrics.otlp.as_deref().map(reqwest::Url::parse) {
            Some(Ok(url)) if matches!(url.scheme(), "http" | "https") => {}
            Some(_) => {
                let text = "this is no address of a collector; write https://, the host and the path /v1/metrics";
                problems.push(Problem { key: "otlp", text: text.to_owned() });
            }
            None if metrics.listen.is_none() && !spoilt => {
                let hint = "give `listen` for Prometheus or `otlp` for a collector, or leave the table out";
                self.say("metrics", "this table serves nobody", hint);
            }
            None => {}
        }
        if !EVERY_S.contains(&metrics.every_s) {
            let message = format!("`every_s` must be from {} to {}", EVERY_S.start(), EVERY_S.end());
            self.say("metrics.every_s", message, "leave it out for the default");
        }
        self.server(problems, metrics.tls.as_ref(), None, "metrics");
    }
}
