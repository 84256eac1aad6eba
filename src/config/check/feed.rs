//! `[[order_feed]]`, and who is told of its orders: what the settings mean beside the others.

use super::Checks;
use crate::config::{Config, Fault};
use crate::delivery;
use crate::orders::feed;

impl Checks<'_> {
    /// Its name is a link's for counters and commands, as that of a connection of the EHR.
    pub(super) fn order_feed(&mut self, feed: &feed::Config, config: &Config, path: &str) {
        self.name(&feed.name, path);
        let links = config.links.iter().map(|link| ("a link", link.name.as_str()));
        let orders = config.orders.iter().map(|orders| ("[[orders]]", orders.name.as_str()));
        let feeds = config.order_feeds.iter().take_while(|other| !std::ptr::eq(*other, feed));
        let feeds = feeds.map(|feed| ("another [[order_feed]]", feed.name.as_str()));
        let taken = links.chain(orders).chain(feeds).find(|(_, name)| !name.is_empty() && *name == feed.name);
        if let Some((by, name)) = taken {
            let message = format!("the name `{name}` is taken by {by}");
            self.say(&format!("{path}.name"), message, "orders are known by the name they came under");
        }
        self.server(feed.problems(), feed.tls.as_ref(), feed.oauth.as_ref(), path);
    }

    /// A name in `order_status` from which no orders come: nobody would be told.
    pub(super) fn order_status(&mut self, destination: &delivery::Config, config: &Config, path: &str) {
        let orders = config.orders.iter().map(|orders| orders.name.as_str());
        let sources: Vec<&str> = orders.chain(config.order_feeds.iter().map(|feed| feed.name.as_str())).collect();
        for (index, named) in destination.order_status.iter().enumerate() {
            if !sources.contains(&named.as_str()) {
                let place = self.value(&format!("{path}.order_status[{index}]"));
                let message = format!("`order_status` names `{named}`, and no orders come from there");
                self.faults.push(Fault::setting(place, message).suggest(named, sources.iter().copied()));
            }
        }
    }
}
