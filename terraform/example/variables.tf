variable "model" {
  description = "Name of the model to create."
  type        = string
  default     = "registry"
}

variable "channel" {
  description = "Charmhub channel of both charms."
  type        = string
  default     = "latest/stable"
}

variable "clients" {
  description = "Names of the sites that mirror the registry."
  type        = set(string)
  default     = ["client-a", "client-b"]
}
