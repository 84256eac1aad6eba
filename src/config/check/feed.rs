//! `[[order_feed]]`: what the settings mean beside the others.

use super::Checks;
use crate::config::Config;
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
}
