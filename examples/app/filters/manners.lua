-- Words that are not for children.
local perigee = require "perigee"
return assert(perigee.filter {
   name = "manners", category = "rude", action = "mask", ignore_case = true, whole_word = true,
   words = { "damn", "blockhead", "villain" },
})
