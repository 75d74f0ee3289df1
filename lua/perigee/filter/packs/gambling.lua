-- Illegal gambling: offers, running it, cheating at it; how a pack is written: common.lua here.
return {
   category = "gambling",
   title = "gambling: offers and advertising, running games, cheating and fixing",
   parts = {
      game = [[(?:casinos?|slots?|slot machines?|roulette|baccarat|blackjack|poker|betting|bookies?|bookmakers?|sportsbooks?|lotter(?:y|ies)|gambl\w+|jackpots?|bets?)]],
      zgame = [[(?:赌场|赌博|百家乐|老虎机|六合彩|时时彩|赌球|博彩|外围(?:投注|赌)|菠菜平台|线上赌|网赌|牌九|炸金花|德州扑克|北京赛车|幸运飞艇|轮盘|私彩|彩票计划|赌局|赌钱|赌盘)]],
   },
   en = {
      words = { "online casino bonus", "free spins", "welcome bonus at our casino", "no kyc casino", "crypto casino", "vip betting picks", "sure win bets", "fixed matches",
         "guaranteed payouts", "live dealers, daily rebates", "real money poker", "real money slots" },
      regex = {
         [[\b(?:play|join|register|sign up|deposit|bet|win)\b<gap>\b(?:casino|slots|baccarat|roulette|poker|jackpots?|spins)\b<gap>\b(?:bonus\w*|rebates?|payouts?|withdrawals?|real money|usdt|code|now|win big|dealers?|guaranteed|instant)\b<after>]],
         [[\b(?:casino|slots|poker|sportsbook|jackpot|spins|bookmaker)\b<gap>\b(?:bonus\w*|no (?:id|kyc)|rebates?|guaranteed payouts?|withdrawals? in usdt|code [a-z0-9]+)\b<after>]],
         [[\b(?:bonus\w*|no (?:id|kyc)|rebates?)\b<gap>\b(?:casino|slots|poker|sportsbook|jackpots?|bookmaker)\b<after>]],
         [[<ask><gap>\b(?:run|open|set up|start|operate|host)\b<near>\b(?:illegal|underground|unlicensed|secret|backroom|online)\b<near>\b(?:betting|casino|gambling|lottery|poker|bookmaking)\b]],
         [[<ask><gap>\b(?:cheat|rig|fix|hack|beat)\b<near>\b(?:slots?|slot machines?|poker|match(?:es)?|games? for the bookies|casino|roulette|blackjack|races?)\b]],
         [[<ask><gap>\b(?:gambl(?:e|ing)|bet(?:ting)?)\b(?! (?:addict|help|debts?))<near>\b(?:my|on|with|under|without|anonymously|in|salary|slots|football|18|illegal\w*)\b]],
         [[\b(?:sites?|apps?|places?) (?:to|for)<near>\b(?:gambl\w+|bet(?:ting)?)\b<after>]],
         [[\bgambl(?:e|ing)\b<near>\b(?:anonymous\w*|no kyc|under(?: |age)|crypto|salary)\b<after>]],
         [[\bbet on\b<gap>\b(?:offshore|bookmaker|no id|our site|without a licen[cs]e|odds)\b]],
         [[\b(?:fixed|rigged) match(?:es)?\b<after>|\b100 ?% (?:sure|win)\b]],
         [[\b(?:betting|lottery)\b<near>\b(?:tips|picks|predictions?|numbers)\b<near>\b(?:sure|guaranteed|vip|win)\b<after>]],
      },
      allow = { regex = { "<allowed>", [[\b(?:responsible gambling|gambling addiction|self-exclusion|casino royale)\b[^.!?\n]{0,80}]] } },
   },
   zh = {
      words = { "美女荷官", "线上赌场", "真人百家乐", "网上赌场", "注册送彩金", "澳门威尼斯人", "澳门新葡京", "外围投注", "特码包中", "计划群带你回血", "上下分", "菠菜平台", "北京赛车",
         "幸运飞艇", "逢赌必赢", "买庄闲", "首存双倍", "私彩代理", "透视扑克牌", "麻将机遥控器", "足球假球内部" },
      regex = {
         [[<zask><zgap>(?:开设|开|参加|玩|操纵|坐庄|代理|经营|在)?[^。!?\n]{0,6}<zgame>(?!.{0,3}(?:罪|案|瘾|成瘾))]],
         [[<zgame>[^。!?\n]{0,14}(?:注册|送彩金|彩金|投注|赔率|下注|充值|充[^。]{0,3}送|提现|代理|回血|稳赢|包赢|加客服|靠谱|推荐|网址|平台|包中|定金|作弊|出千|秒到)(?!.{0,4}(?:犯罪|返还))<zafter>]],
         [[(?:注册|投注|赔率|下注|送彩金|首存|彩金|充值送)[^。!?\n]{0,10}<zgame><zafter>]],
         [[(?:赌博|赌球|赌场|赌钱|网赌)[^。!?\n]{0,6}(?:哪个|平台|怎么赢|技巧|网站)<zafter>]],
         [[(?:操纵|打|买)?假球[^。!?\n]{0,8}(?:内部|包赢|操纵|消息|下注)|(?:操纵|打)假球]],
         [[(?:押大小|押注|下注|买大买小|庄闲)[^。!?\n]{0,12}(?:双倍|来|赢|平台|首存|快)<zafter>]],
         [[(?:棋牌)[^。!?\n]{0,8}(?:上分|下分|银商|提现|代充)]],
         [[(?:麻将|扑克|牌)[^。!?\n]{0,6}(?:作弊器|遥控|透视|出千|必赢)<zafter>]],
         [[(?:坐庄|出千|上分)[^。!?\n]{0,6}(?:六合彩|技巧|教程|老虎机|加)]],
      },
      allow = { words = { "百家乐小区" }, regex = { "<zallowed>", [[(?:戒掉|戒赌|赌瘾|成瘾|展品|输了钱|菠菜炒)[^。!?\n]{0,30}]] } },
   },
}
