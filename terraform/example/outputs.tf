output "applications" {
  description = "Names of all deployed applications."
  value = concat(
    [module.aar.app_name, module.publisher.app_name],
    [for client in module.client : client.app_name],
  )
}
