output "app_name" {
  description = "Name of the deployed application."
  value       = juju_application.aar.name
}

output "provides" {
  description = "Endpoints that sites are related to, by role."
  value       = local.provides
}

output "requires" {
  description = "Endpoints of the engines that several units share."
  value       = local.requires
}

output "offer_urls" {
  description = "URLs of the offers by role; empty without `offers`."
  value       = { for role, offer in juju_offer.registry : role => offer.url }
}
