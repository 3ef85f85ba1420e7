//! What one request sees of the routes.

use crate::alias::Alias;
use crate::deployment::RoutedDeployment;
use crate::priors::Priors;
use crate::routes::Routes;

/// One configuration and one table. A request keeps them from its plan to its last attempt.
#[derive(Debug, Clone, Copy)]
pub struct RoutingView<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) priors: &'a Priors,
}

impl Routes {
    /// The view for one request.
    pub fn view<'a>(&'a self, priors: &'a Priors) -> RoutingView<'a> {
        RoutingView {
            routes: self,
            priors,
        }
    }
}

/// What one decision reads: an alias, as a view shows it at one time.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) view: RoutingView<'a>,
    pub(crate) alias: &'a Alias,
    pub(crate) now_us: u64,
}

impl<'a> RoutingView<'a> {
    pub(crate) fn at(self, alias: &'a Alias, now_us: u64) -> Moment<'a> {
        Moment {
            view: self,
            alias,
            now_us,
        }
    }
}

impl<'a> Moment<'a> {
    /// The deployment of one of the alias's targets.
    pub(crate) fn deployment(self, target: usize) -> &'a RoutedDeployment {
        let target = self.alias.targets[target];
        self.view.routes.deployment(target.deployment)
    }
}
